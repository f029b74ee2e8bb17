"""The pace of each pair of a socket: which are silent for longer than they ever are, and are not proven quiet.

    trades   | ||  |   | |        (silence)           | |
    told                    ^ silent                  ^ back
             <-> the longest pause lately, of which a silence may be SLACK times

Nothing is done about it, as a market may be quiet: it is told. A venue's heartbeat with the same last id as before
proves that there was nothing to send.

Pure; clocks are handed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptoflow.model.trade import Pair

SLACK = 5.0
"""A silence of so many of the longest pauses lately is none of the market's own."""

LEAST_S = 30.0
"""No shorter silence is told."""

UNKNOWN_S = 300.0
"""A pair whose pace is not known, since nothing has come yet, may be silent for so long while others trade."""

FADES = 1 / 256
"""The longest pause fades by this part at each look that finds new trades: what was, does not count for ever."""

PROOF_S = 10.0
"""How long the proof of a quiet pair holds; heartbeats come each second."""


@dataclass(frozen=True)
class PairSilent:
    """Nothing has come of a pair for longer than its pace suggests."""

    pair: Pair
    silent_s: float
    longest_s: float | None
    """Its longest pause lately; None: nothing has come of it yet, while others trade."""

    def __str__(self) -> str:
        usual = (
            "though others trade" if self.longest_s is None else f"its longest pause lately was {self.longest_s:.0f} s"
        )
        return (
            f"Nothing has come of {_name(self.pair)} for {self.silent_s:.0f} s, {usual}: it is quiet, or the venue has "
            "forgotten the subscription."
        )


@dataclass(frozen=True)
class PairBack:
    """A pair that was told as silent trades again, or is proven quiet."""

    pair: Pair
    silent_s: float

    def __str__(self) -> str:
        return f"{_name(self.pair)} is no longer silent, after {self.silent_s:.0f} s."


Told = PairSilent | PairBack


def _name(pair: Pair) -> str:
    market, coin, currency = pair
    return f"{coin}-{currency} on {market}"


@dataclass(slots=True)
class _Pace:
    since_s: float
    """When it last traded or was proven quiet, or when its socket was opened."""
    longest_s: float | None = None
    """None: nothing has come yet."""
    traded: bool = False
    """Since the last look."""
    started: bool = False
    """Whether `since_s` is the time of a trade, from which a pause can be counted."""
    number: int = -1
    """The last id that the venue has told."""
    proven_s: float = float("-inf")
    silent: bool = False


class Paces:
    """Those of the pairs of one socket; others are passed over.

    Args:
        now_s: of any monotonic clock, as everywhere.
    """

    def __init__(self, pairs: Iterable[Pair], now_s: float) -> None:
        self._paces = {pair: _Pace(now_s) for pair in pairs}
        self._others_traded = False

    @property
    def silent(self) -> list[Pair]:
        """The pairs that are told as silent."""
        return [pair for pair, pace in self._paces.items() if pace.silent]

    def opened(self, now_s: float) -> None:
        """A socket was opened: what was silent while there was none counts for nothing."""
        self._others_traded = False
        for pace in self._paces.values():
            pace.since_s, pace.started = now_s, False

    def traded(self, pair: Pair) -> None:
        """A trade has come, now."""
        if pace := self._paces.get(pair):
            pace.traded = True

    def reached(self, pair: Pair, number: int, now_s: float) -> None:
        """The venue says which was the last trade of all: the same as before proves that there was none since."""
        if pace := self._paces.get(pair):
            if number == pace.number:
                pace.proven_s = now_s
            pace.number = number

    def quiet(self, now_s: float) -> bool:
        """Whether all pairs are proven to have nothing to send."""
        return bool(self._paces) and all(now_s - pace.proven_s < PROOF_S for pace in self._paces.values())

    def look(self, now_s: float) -> list[Told]:
        """What has changed; to be called every now and then, as a pause is as long as the looks tell."""
        told: list[Told] = []
        for pair, pace in self._paces.items():
            silent_s = now_s - pace.since_s
            if pace.traded or now_s - pace.proven_s < PROOF_S:
                if pace.silent:
                    told.append(PairBack(pair, silent_s))
                self._note(pace, now_s, silent_s)
            elif not pace.silent and silent_s >= self._bearable_s(pace):
                pace.silent = True
                told.append(PairSilent(pair, silent_s, pace.longest_s))
        return told

    def _note(self, pace: _Pace, now_s: float, silent_s: float) -> None:
        """It has traded, or is proven quiet: no pause of its own, then."""
        if pace.traded:
            pause_s = silent_s if pace.started else 0.0
            pace.longest_s = max(pause_s, (pace.longest_s or 0.0) * (1 - FADES))
            self._others_traded = True
        pace.started, pace.since_s = pace.traded, now_s
        pace.traded = pace.silent = False

    def _bearable_s(self, pace: _Pace) -> float:
        if pace.longest_s is None:
            return UNKNOWN_S if self._others_traded else float("inf")
        return max(LEAST_S, SLACK * pace.longest_s)
