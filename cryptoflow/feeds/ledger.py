"""The ledger of a feed's trades: which numbers of each pair have come, so which are missing, and since when.

Numbers step by one for each trade of a pair: the ids of most venues, CryptoCompare's sequence. They come out of order
within a frame and after a reconnect, so a hole is a gap only when it has been open for a while. Pairs without numbers
have gaps by time: from the last trade before an outage to the first one after, unless a repeated trade joins the two.

What is missing and told is to be filled: the ledger says what of it to ask for next. Pure; clocks are handed in.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from cryptoflow.feeds.gaps import Earlier, Gap, Newest, Standing, Told
from cryptoflow.feeds.numbers import NOTHING, PairState
from cryptoflow.model.trade import Pair, Trade
from cryptoflow.venues.past import Wanted
from cryptoflow.venues.reading import subscribed_pairs


def _by_pair(trades: Iterable[Trade]) -> dict[Pair, list[Trade]]:
    found: dict[Pair, list[Trade]] = defaultdict(list)
    for trade in trades:
        found[trade.pair].append(trade)
    return found


class Ledger:
    """Only the pairs that were subscribed have gaps, and are remembered.

    Args:
        patience_s: for how long a missing trade may still come before it makes a gap.
    """

    def __init__(self, subscriptions: Iterable[str], patience_s: float) -> None:
        self._pairs = {pair: PairState(pair) for pair in subscribed_pairs(subscriptions)}
        self._patience_s = patience_s

    def has(self, pair: Pair) -> bool:
        """Whether it is one of the ledger's."""
        return pair in self._pairs

    def restore(self, earlier: Earlier, now_ns: int, reason: str) -> None:
        """Begin where an earlier run of the same feed has ended: the time in between is an outage.

        Holes between its trades, and its gaps, are told no more, and to be filled.
        """
        trades, filled = _by_pair(earlier.trades), _by_pair(earlier.filled)
        for pair, state in self._pairs.items():
            state.restore(trades[pair], filled[pair], earlier.standings.get(pair, Standing()))
            if state.next is not None or state.latest_ns is not None:
                state.lost(now_ns, reason)

    def lost(self, now_ns: int, reason: str) -> None:
        """The socket was lost at `now_ns`. An outage that is not over keeps its beginning and its reason."""
        for state in self._pairs.values():
            state.lost(now_ns, reason)

    def seen(self, trade: Trade, now_s: float, *, new: bool) -> Sequence[Told]:
        """Take note of a trade; what it tells.

        Args:
            now_s: any monotonic clock.
            new: whether it came for the first time.
        """
        state = self._pairs.get(trade.pair)
        if state is None:
            return NOTHING
        number = trade.sequence
        if number is not None and number == state.next and state.outage is None:  # nearly always
            state.next, state.top_ns = number + 1, trade.event_time_ns
            return NOTHING
        return state.seen(trade, now_s, new)

    def reached(self, pair: Pair, number: int, time_ns: int, now_s: float) -> None:
        """The feed has a trade of that number, which `time_ns` is not older than, whether it has sent it or not."""
        if state := self._pairs.get(pair):
            state.reached(number, time_ns, now_s)

    def opened(self, now_s: float) -> None:
        """A socket is open. Of a pair that stays silent, only its newest trade tells whether it lacks something."""
        for state in self._pairs.values():
            state.opened(now_s)

    def unsure(self, now_s: float) -> Pair | None:
        """A pair whose newest trade is to be asked for now."""
        return next((pair for pair, state in self._pairs.items() if state.to_look(now_s)), None)

    def looked(self, pair: Pair, newest: Trade | None, now_s: float) -> None:
        """A pair's newest trade was asked for. All that follow it are known by their numbers, if nothing was before.

        Args:
            newest: None: nobody tells, or there is none.
        """
        self._pairs[pair].looked(newest, now_s)

    def due(self, now_s: float) -> list[Gap]:
        """The gaps of the holes that have been open for long enough, one for each pair that has some."""
        return [gap for state in self._pairs.values() if (gap := state.due(now_s - self._patience_s))]

    def end(self, now_ns: int) -> list[Gap]:
        """The gaps that are left at the end of the run, at `now_ns`."""
        return [gap for state in self._pairs.values() for gap in state.end(now_ns)]

    def missing(self, pair: Pair) -> list[tuple[int, int]]:
        """The (first, last) numbers of each stretch of a pair that has not come, in order."""
        state = self._pairs.get(pair)
        return [(hole.first, hole.last) for hole in state.holes] if state else []

    def newest(self, pair: Pair) -> Newest:
        """The newest trade of a pair that no hole comes before but for those that are told."""
        return self._pairs[pair].newest

    # Of what is to be filled

    def gaps(self) -> Iterator[tuple[Pair, list[Gap]]]:
        """Of each pair the holes that were told and are open, each a gap of its own."""
        for pair, state in self._pairs.items():
            yield pair, state.gaps()

    def to_ask(self, now_s: float, page: int) -> Wanted | None:
        """What to ask for now, the numbers on either side of it too: they tell whether the answer goes as far.

        Pairs take turns, and of a pair the oldest comes first: an hour is then whole before the next one is begun.

        Args:
            page: trades in one answer, at most.
        """
        for state in sorted(self._pairs.values(), key=lambda state: state.asked_s):
            if wanted := state.to_ask(now_s, page):
                state.asked_s = now_s
                return wanted
        return None

    def lacks(self, trade: Trade) -> bool:
        """Whether its number is missing."""
        state = self._pairs.get(trade.pair)
        return state is not None and trade.sequence is not None and state.hole_of(trade.sequence) is not None

    def filled(self, trades: Iterable[Trade]) -> list[Told]:
        """Take note of trades that were asked for and found; what they tell."""
        return [told for trade in trades if self.lacks(trade) for told in self._pairs[trade.pair].fill(trade)]

    def asked(self, wanted: Wanted, highest: int, now_s: float, settled_ns: int) -> Gap | None:
        """What was asked for and found is noted; what is left comes again, later each time, or not at all.

        Args:
            highest: the highest number in the answer.
            settled_ns: exchange time before which a hole is for good that the answer goes beyond: given back.
        """
        return self._pairs[wanted.pair].asked(wanted, highest, now_s, settled_ns)

    def ready(self, pair: Pair, now_s: float) -> bool:
        """Whether what a pair lacks may be asked for."""
        return self._pairs[pair].ready_s <= now_s

    def postpone(self, pair: Pair, until_s: float) -> None:
        """Ask for nothing of a pair for a while."""
        self._pairs[pair].postpone(until_s)

    def give_up(self, before_ns: int, slack_ns: int) -> list[Gap]:
        """Forget what is missing from before an exchange time; it is given back, as one gap of each pair.

        Args:
            slack_ns: a hole that begins before that time is cut only if it does by more.
        """
        return [gap for state in self._pairs.values() if (gap := state.give_up(before_ns, slack_ns))]
