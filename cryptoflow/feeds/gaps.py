"""What the feed's outages hid: a gap for each pair, from the last trade before to the first one after."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cryptoflow.feeds.protocol import subscribed_pairs
from cryptoflow.model.trade import Trade
from cryptoflow.model.window import utc_time

WATCHED = 20
"""New trades of a pair after an outage within which a hole in their sequence is the outage's: as many as a replay."""


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
    """Opens a gap for every pair when the socket is lost, and closes it once the pair's trades tell what was missed.

    The feed replays a pair's last trades, as it had sent them, after each subscription. A replay that overlaps holds
    the last trade from before the outage: seen again, it bridges the hole. Another old trade proves nothing, known or
    late. Where trades have their sequence, it decides: what follows without a hole was not missed, and a hole that
    the next `WATCHED` trades leave open was, replay or not.

    Only the pairs that were subscribed have gaps, and are remembered.
    """

    def __init__(self, subscriptions: Iterable[str]) -> None:
        self._pairs = {pair: _PairState() for pair in subscribed_pairs(subscriptions)}

    def lost(self, now_ns: int, reason: str) -> None:
        """The socket was lost at `now_ns`. A gap that is open already keeps its beginning and its reason."""
        for state in self._pairs.values():
            state.lost(now_ns, reason)

    def seen(self, trade: Trade, *, new: bool) -> Gap | None:
        """Take note of a trade; the gap that it closes, if it closes one."""
        state = self._pairs.get(trade.pair)
        if state is None or (missed := state.seen(trade, new)) is None:
            return None
        return Gap(*trade.pair, *missed)

    def end(self, now_ns: int) -> Iterator[Gap]:
        """The gaps that no trade has closed by the end of the run, at `now_ns`, of pairs that had trades."""
        for pair, state in self._pairs.items():
            if missed := state.end(now_ns):
                yield Gap(*pair, *missed)


Missed = tuple[int, int, str]
"""(from_ns, to_ns, reason) of a gap."""


@dataclass(slots=True)
class _Outage:
    from_ns: int
    reason: str
    joined: bool = False
    """Whether something that came after it joins what came before."""
    followed: int = 0
    """New trades in sequence since."""


@dataclass(slots=True)
class _Order:
    """Which sequence numbers have come: all up to `edge`, and those `ahead` of a hole, with their exchange times."""

    edge: int | None = None
    edge_ns: int = 0
    ahead: dict[int, int] = field(default_factory=dict)

    def is_next(self, sequence: int | None) -> bool:
        """Whether it lies beyond the edge, so that it tells of holes."""
        return sequence is not None and self.edge is not None and sequence > self.edge

    def add(self, sequence: int, time_ns: int) -> None:
        if self.edge is None or sequence == self.edge + 1:
            self.edge = sequence
            if time_ns > self.edge_ns:
                self.edge_ns = time_ns
            while self.ahead and (sequence := sequence + 1) in self.ahead:
                self._advance(sequence, self.ahead.pop(sequence))
        elif sequence > self.edge:
            self.ahead[sequence] = time_ns

    def _advance(self, sequence: int, time_ns: int) -> None:
        self.edge, self.edge_ns = sequence, max(self.edge_ns, time_ns)

    def holes(self) -> tuple[int, int]:
        """Between which exchange times the holes lie; there has to be one."""
        upper = max(self.ahead)
        while upper - 1 in self.ahead:
            upper -= 1
        return min(self.edge_ns, self.ahead[upper]), max(self.edge_ns, self.ahead[upper])

    def jump(self) -> None:
        """Wait no longer for what is missing."""
        self._advance(max(self.ahead), max(self.ahead.values()))
        self.ahead.clear()


@dataclass(slots=True)
class _PairState:
    latest_ns: int | None = None
    latest_id: str = ""
    """The latest by exchange time."""
    newest_id: str = ""
    """The last one that came for the first time."""
    order: _Order = field(default_factory=_Order)
    outage: _Outage | None = None

    def lost(self, now_ns: int, reason: str) -> None:
        if self.outage is None or (self.outage.joined and not self.order.ahead):
            self.outage = _Outage(now_ns if self.latest_ns is None else self.latest_ns, reason)

    def seen(self, trade: Trade, new: bool) -> Missed | None:
        if self.outage is not None:
            return self._judge(self.outage, trade, new)
        self._note(trade, new)
        if self.order.ahead and len(self.order.ahead) > WATCHED:
            self.order.jump()
        return None

    def _note(self, trade: Trade, new: bool) -> None:
        time_ns = trade.event_time_ns
        if trade.sequence is not None:
            self.order.add(trade.sequence, time_ns)
        if new:
            self.newest_id = trade.id
        if self.latest_ns is None or time_ns > self.latest_ns:
            self.latest_ns, self.latest_id = time_ns, trade.id

    def _judge(self, outage: _Outage, trade: Trade, new: bool) -> Missed | None:
        if self.latest_ns is None:
            return self._first_ever(outage, trade)
        if not new:
            self._repeated(outage, trade)
            return None
        in_sequence = self.order.is_next(trade.sequence)
        self._note(trade, new)
        if in_sequence:
            return self._by_sequence(outage)
        return self._by_time(outage, trade) if trade.event_time_ns > outage.from_ns else None

    def _first_ever(self, outage: _Outage, trade: Trade) -> Missed | None:
        """What is older than the outage comes of a replay that bridges it, as far as its sequence bears that out."""
        self._note(trade, new=True)
        outage.joined = trade.event_time_ns < outage.from_ns
        self.outage = outage if outage.joined and trade.sequence is not None else None
        return None if outage.joined else (outage.from_ns, trade.event_time_ns, outage.reason)

    def _repeated(self, outage: _Outage, trade: Trade) -> None:
        outage.joined = outage.joined or trade.id in (self.latest_id, self.newest_id)
        if outage.joined and self.order.edge is None:
            self.outage = None

    def _by_sequence(self, outage: _Outage) -> Missed | None:
        outage.followed += 1
        watched = outage.followed >= WATCHED
        missed = None
        if not self.order.ahead:
            outage.joined = True
        elif watched or not outage.joined:
            missed = (*self.order.holes(), outage.reason)
            self.order.jump()
        if watched or missed:
            self.outage = None
        return missed

    def _by_time(self, outage: _Outage, trade: Trade) -> Missed | None:
        """A newer trade that has no sequence, or one that goes back: then the numbers begin anew."""
        self.outage = None
        if trade.sequence is not None:
            self.order = _Order(trade.sequence, trade.event_time_ns)
            self.outage = _Outage(trade.event_time_ns, outage.reason, joined=True)
        return None if outage.joined else (outage.from_ns, trade.event_time_ns, outage.reason)

    def end(self, now_ns: int) -> Missed | None:
        outage, self.outage = self.outage, None
        if outage is None or self.latest_ns is None:
            return None
        if outage.joined:
            return (*self.order.holes(), outage.reason) if self.order.ahead else None
        return outage.from_ns, max(outage.from_ns, now_ns), outage.reason
