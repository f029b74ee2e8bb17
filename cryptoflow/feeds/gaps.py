"""What the feed's outages hid: a gap for each pair, from the last trade before to the first one after."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptoflow.model.trade import TRADE_TYPE, Trade
from cryptoflow.model.window import utc_time

Pair = tuple[str, str, str]


@dataclass(frozen=True)
class Gap:
    """Trades of a pair with exchange times from `from_ns` to `to_ns` (ns since the epoch) may be missing."""

    market: str
    from_coin: str
    to_currency: str
    from_ns: int
    to_ns: int
    reason: str

    def __str__(self) -> str:
        between = f"{utc_time(self.from_ns):%Y-%m-%d %H:%M:%S} and {utc_time(self.to_ns):%H:%M:%S} UTC"
        pair = f"{self.from_coin}-{self.to_currency} on {self.market}"
        return f"Trades of {pair} between {between} may be missing: {self.reason}."


class GapFinder:
    """Opens a gap for every pair when the socket is lost, and closes it at the pair's next trade.

    The feed replays a pair's last trades after each subscription. If the first of them was seen before, or is
    older than the last one seen, the replay bridges the hole: nothing was missed.
    """

    def __init__(self, subscriptions: Iterable[str]) -> None:
        self._pairs = tuple(_pairs(subscriptions))
        self._last_ns: dict[Pair, int] = {}
        self._open: dict[Pair, tuple[int, str]] = {}

    def lost(self, now_ns: int, reason: str) -> None:
        """The socket was lost at `now_ns`. A gap that is open already keeps its beginning and its reason."""
        for pair in self._pairs:
            self._open.setdefault(pair, (self._last_ns.get(pair, now_ns), reason))

    def seen(self, trade: Trade, *, new: bool) -> Gap | None:
        """Take note of a trade; the gap that it closes, if it closes one."""
        pair, time_ns = trade.pair, trade.event_time_ns
        opened = self._open.pop(pair, None) if self._open else None
        if time_ns > self._last_ns.get(pair, 0):
            self._last_ns[pair] = time_ns
        if opened is None or not new or time_ns < opened[0]:
            return None
        return Gap(*pair, opened[0], time_ns, opened[1])

    def end(self, now_ns: int) -> Iterator[Gap]:
        """The gaps that no trade has closed by the end of the run, at `now_ns`, of pairs that had trades."""
        for pair, (from_ns, reason) in self._open.items():
            if pair in self._last_ns:
                yield Gap(*pair, from_ns, max(from_ns, now_ns), reason)
        self._open.clear()


def _pairs(subscriptions: Iterable[str]) -> Iterator[Pair]:
    for subscription in subscriptions:
        match subscription.split("~"):
            case [channel, market, coin, currency] if channel == TRADE_TYPE:
                yield market, coin, currency
