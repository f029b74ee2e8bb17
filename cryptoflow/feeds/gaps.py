"""Gaps of a feed: trades of a pair that did not come, how they are told, and what the log tells of an earlier run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptoflow.model.trade import Pair, Trade
from cryptoflow.model.window import utc_time

Numbers = tuple[int, int]
"""The first and the last of a stretch of numbers."""


@dataclass(frozen=True)
class Gap:
    """Trades of a pair with exchange times from `from_ns` to `to_ns` (ns since the epoch) may be missing.

    Attributes:
        holes: the stretches of missing numbers, in order; none: the gap is known by its times alone.
    """

    market: str
    from_coin: str
    to_currency: str
    from_ns: int
    to_ns: int
    reason: str
    holes: tuple[Numbers, ...] = ()

    @property
    def pair(self) -> Pair:
        """(market, from coin, to currency)."""
        return self.market, self.from_coin, self.to_currency

    @property
    def missing(self) -> int | None:
        """How many numbers are; None: it is not known."""
        return sum(last - first + 1 for first, last in self.holes) or None

    @property
    def trades(self) -> str:
        """What is or may be missing, in words."""
        return f"{self._counted} {self._place}"

    def __str__(self) -> str:
        if self.missing is None:
            return f"Trades {self._place} may be missing: {self.reason}."
        return f"{self.trades} {'is' if self.missing == 1 else 'are'} missing: {self.reason}."

    @property
    def _counted(self) -> str:
        if self.missing is None:
            return "Trades"
        return "1 trade" if self.missing == 1 else f"{self.missing:,} trades"

    @property
    def _place(self) -> str:
        between = f"{utc_time(self.from_ns):%Y-%m-%d %H:%M:%S} and {utc_time(self.to_ns):%H:%M:%S} UTC"
        return f"of {self.from_coin}-{self.to_currency} on {self.market} between {between}"


def bounded(gaps: Sequence[Gap], most: int) -> tuple[Gap, ...]:
    """As many gaps of a pair as are kept: of those with numbers, which ascend, the last takes in all that are above."""
    numbered = [gap for gap in gaps if gap.holes]
    if len(numbered) > most:
        first, last = numbered[most - 1], numbered[-1]
        holes = ((first.holes[0][0], last.holes[-1][1]),)
        numbered[most - 1 :] = [replace(first, to_ns=max(first.to_ns, last.to_ns), holes=holes)]
    return (*numbered, *(gap for gap in gaps if not gap.holes))


@dataclass(frozen=True)
class Filled:
    """All trades of a gap that was told have come after all."""

    gap: Gap

    def __str__(self) -> str:
        return f"{self.gap.trades} {'has' if self.gap.missing == 1 else 'have'} come after all."


@dataclass(frozen=True)
class Unfilled:
    """A gap that was told is asked for no more."""

    gap: Gap
    why: str

    def __str__(self) -> str:
        return f"{self.gap.trades} can't be filled: {self.why}."


Told = Gap | Filled


Newest = tuple[int, int] | None
"""The number of a pair's newest trade, and its exchange time in ns; None: it has no numbers, or nothing has come."""


@dataclass(frozen=True)
class Standing:
    """How a pair stands, for a later run to go on from.

    Attributes:
        gaps: what is to be filled.
        newest: its newest trade, put down in each pause. A pair that is quiet among busy ones has none at the log's
            end, as far as that is read; what is there is newer.
    """

    gaps: tuple[Gap, ...] = ()
    newest: Newest = None


@dataclass(frozen=True)
class Earlier:
    """What the log has of an earlier run of the same feed; trades in any order.

    Attributes:
        trades: the last ones of each pair that came live.
        filled: the last ones that were filled in.
        standings: what was put down of pairs.
    """

    trades: Sequence[Trade] = ()
    filled: Sequence[Trade] = ()
    standings: Mapping[Pair, Standing] = field(default_factory=dict)

    @property
    def gaps(self) -> list[Gap]:
        """All that was to be filled."""
        return [gap for standing in self.standings.values() for gap in standing.gaps]
