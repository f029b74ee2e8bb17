"""The market of a simulated venue: what is traded whether anybody listens or not, now and in the past.

Each trade is a function of the seed, its pair and its number, and so is its time. So the venue's websocket and its
REST tell the same trades, a month of history needs no memory, and a simulator started again goes on in the same market.

Every 64 trades begin with a sweep, one taker's order that eats through the book: 8 trades of one time and side, 4 at
each of two prices. That is what aggregates (Binance) and frames of several trades (Kraken) are made of.
"""

import heapq
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice, takewhile
from typing import NamedTuple

import numpy as np

from cryptoflow.model.trade import NS_PER_S, Trade
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.events import Event, in_ns, subscription_of
from cryptoflow.simulator.generator import QUANTITY_DECIMALS, Draw, Draws, Walk

ANCHOR_S = 1_577_836_800
"""2020-01-01: trade 0 of every pair, where nothing names another begin."""

FIRST_ID = 1_000_000_000
"""Of the first live trade of a market that begins at a named time; what is before it is history."""

BLOCK, SWEEP, LEVEL = 64, 8, 4
"""Trades from sweep to sweep, of a sweep, and of one price of it."""

AGGREGATES = BLOCK - SWEEP + SWEEP // LEVEL
"""Of a block: the trades of one order, time and price are one aggregate."""


def order_of(number: int) -> int:
    """The number of the first trade that the same taker's order made."""
    return number - number % BLOCK if number % BLOCK < SWEEP else number


def level_of(number: int) -> int:
    """The number of the first trade that its order made at the same price."""
    return number - number % BLOCK % LEVEL if number % BLOCK < SWEEP else number


def aggregate_of(number: int) -> int:
    """Which aggregate a trade is part of."""
    block, place = divmod(number, BLOCK)
    return block * AGGREGATES + (place // LEVEL if place < SWEEP else SWEEP // LEVEL + place - SWEEP)


def of_aggregate(aggregate: int) -> range:
    """The numbers of the trades that an aggregate is made of."""
    block, place = divmod(aggregate, AGGREGATES)
    first = block * BLOCK + (place * LEVEL if place < SWEEP // LEVEL else place - SWEEP // LEVEL + SWEEP)
    return range(first, first + (LEVEL if place < SWEEP // LEVEL else 1))


class Traded(NamedTuple):
    """One trade, exact: amounts are whole units of a power of ten."""

    pair: tuple[str, str, str]
    number: int
    id: int
    time_ns: int
    price: int
    price_decimals: int
    quantity: int
    quantity_decimals: int
    buy: bool
    """Whether the taker bought."""

    @property
    def price_text(self) -> str:
        """The price in all its decimals."""
        return decimal_text(self.price, self.price_decimals)

    @property
    def quantity_text(self) -> str:
        """The quantity in all its decimals."""
        return decimal_text(self.quantity, self.quantity_decimals)

    def trade(self) -> Trade:
        """As it stands in Kafka: CryptoCompare's form, the taker's side, the time to the microsecond, which is all that
        any websocket tells."""
        market, from_coin, to_currency = self.pair
        price, quantity = self.price / 10**self.price_decimals, self.quantity / 10**self.quantity_decimals
        time_s, rest_ns = divmod(self.time_ns // 1000 * 1000, NS_PER_S)
        return Trade(
            market=market,
            from_coin=from_coin,
            to_currency=to_currency,
            flags="2" if self.buy else "1",
            id=str(self.id),
            time_s=time_s,
            rest_ns=rest_ns,
            quantity=quantity,
            price=price,
            total=price * quantity,
        )


def decimal_text(units: int, decimals: int) -> str:
    """`units` of 10 ** -decimals, with so many decimals."""
    whole, part = divmod(units, 10**decimals)
    return f"{whole}.{part:0{decimals}}" if decimals else str(whole)


def decimal_units(text: str) -> tuple[int, int]:
    """The (units, decimals) of a decimal number's text.

    Raises:
        ValueError: it is none.
    """
    whole, _, part = text.partition(".")
    return int(whole + part), len(part)


class Clock(NamedTuple):
    """When the trades of a pair are made, all times in ns since the epoch."""

    anchor_ns: int
    """Of number 0."""
    gap_ns: int
    """From trade to trade, on average; each has its place of this length, and a random time in it."""
    past_gap_ns: int
    """The same for numbers below 0."""
    resolution_ns: int
    """Of the venue's times, which are cut to it."""

    def time_ns(self, number: int, bits: int) -> int:
        """The time of a trade whose order begins with `number`; `bits` are random."""
        gap_ns = self.gap_ns if number >= 0 else self.past_gap_ns
        places = SWEEP if number % BLOCK == 0 else 1
        exact_ns = self.anchor_ns + number * gap_ns + (places * gap_ns * (bits >> 44) >> 20)
        return exact_ns - exact_ns % self.resolution_ns


class Tape:
    """All trades of one pair.

    Args:
        clock: their times.
        live_ns: when the simulator starts; what is before it is history.
        listed_ns: when the first trade of all was made.
        lost_ids: the share of ids that no trade has.
        start_id: the id of the first live trade; None: the number of each trade is its id, too.
    """

    def __init__(
        self, walk: Walk, clock: Clock, live_ns: int, listed_ns: int, *, lost_ids: float, start_id: int | None
    ) -> None:
        self.pair = walk.pair
        self._walk = walk
        self._clock = clock
        self._lost_ids = int(lost_ids * 2**20)
        self._holes: list[range] = []
        self.live = self.at(live_ns)
        """The number of the first live trade."""
        self.next = self.live
        """The number of the first trade that is not made yet."""
        self.offset = 0 if start_id is None else start_id - self.live
        """What an id is more than its number."""
        self.first = max(self.at(listed_ns), 1 - self.offset)

    def random(self, number: int) -> int:
        """64 random bits of a number, others than those that trades are made of."""
        return self._walk.random(~number)

    def time_ns(self, number: int) -> int:
        """When a trade is made, in ns since the epoch."""
        first = order_of(number)
        return self._clock.time_ns(first, self._walk.random(first))

    def at(self, time_ns: int) -> int:
        """The number of the first trade at a time or after it."""
        clock = self._clock
        gap_ns = clock.gap_ns if time_ns >= clock.anchor_ns else clock.past_gap_ns
        near = (time_ns - clock.anchor_ns) // gap_ns
        far = 2 * SWEEP + clock.resolution_ns // gap_ns
        return bisect_left(range(near - far, near + far), time_ns, key=self.time_ns) + near - far

    def draw(self, number: int) -> Draw:
        """What a trade is, without its time."""
        return self._walk.draw(number, level_of(number))

    def draws(self, first: int, end: int) -> Draws:
        """What the trades from `first` to before `end` are, of those that are made."""
        numbers = np.arange(max(first, self.first), max(self.first, min(end, self.next)), dtype=np.int64)
        if self._lost_ids or self._holes:
            numbers = numbers[np.fromiter(map(self.exists, numbers.tolist()), dtype=np.bool_, count=len(numbers))]
        place = numbers % BLOCK
        return self._walk.draws(numbers, numbers - np.where(place < SWEEP, place % LEVEL, 0))

    def trade(self, number: int) -> Traded:
        """A trade, whether it is made yet or not."""
        price, quantity, buy = self.draw(number)
        return Traded(
            self.pair,
            number,
            number + self.offset,
            self.time_ns(number),
            price,
            self._walk.price_decimals,
            quantity,
            QUANTITY_DECIMALS,
            buy,
        )

    @property
    def price_decimals(self) -> int:
        """Of all its prices."""
        return self._walk.price_decimals

    def aggregate_of(self, number: int) -> int:
        """Which aggregate a trade is part of."""
        return aggregate_of(number)

    def of_aggregate(self, aggregate: int) -> range:
        """The numbers of the trades that an aggregate is made of."""
        return of_aggregate(aggregate)

    def skip(self, ids: int) -> range:
        """Leaves the next ids out, so that no trade ever has them; gives them."""
        self._holes.append(range(self.next, self.next + ids))
        return range(self.next + self.offset, self.next + self.offset + ids)

    def exists(self, number: int) -> bool:
        """Whether a trade has this number; it may be still to come."""
        if number < self.first or any(number in hole for hole in self._holes):
            return False
        # What is one aggregate is lost as a whole.
        return not self._lost_ids or self.random(level_of(number)) >> 40 & 0xFFFFF >= self._lost_ids

    def between(self, first: int, end: int) -> Iterator[int]:
        """The numbers of the trades from `first` to before `end`, of those that are made."""
        return filter(self.exists, range(max(first, self.first), min(end, self.next)))

    def before(self, end: int) -> Iterator[int]:
        """The numbers of the trades before `end`, newest first, of those that are made."""
        return filter(self.exists, range(min(end, self.next) - 1, self.first - 1, -1))


class Market:
    """A source of events: the trades of all pairs in the order of their times.

    Args:
        pairs: (market, from coin, to currency) each.
        encode: makes one frame of trades of one pair and time.
        batches: whether a frame may hold several trades.
        start_ns: when it starts, in ns since the epoch, if the config does not say.
        resolution_ns: of the venue's times.
    """

    dated_back = False

    def __init__(
        self,
        config: SimulatorConfig,
        pairs: Sequence[tuple[str, str, str]],
        encode: Callable[[Sequence[Traded]], bytes],
        *,
        batches: bool,
        start_ns: int,
        resolution_ns: int,
    ) -> None:
        self._config = config
        self._encode = encode
        self._batches = batches
        self._rng = random.Random(f"{config.seed} ids")
        self.start_ns = start_ns if config.start_time_s is None else in_ns(config.start_time_s)
        self._newest_ns = self.start_ns
        self._made = 0
        self._waiting: deque[Sequence[Traded]] = deque()
        self.tapes = {subscription_of(pair): self._tape(pair, pairs, resolution_ns) for pair in pairs}
        self._heads: list[tuple[int, str, int]] = []
        self._find_heads()

    def _tape(self, pair: tuple[str, str, str], pairs: Sequence[tuple[str, str, str]], resolution_ns: int) -> Tape:
        config = self._config
        quiet = config.faults.quiet_pairs
        busy = max(1, sum("-".join(each[1:]) not in quiet for each in pairs))
        step_s = config.faults.quiet_every_s if "-".join(pair[1:]) in quiet else config.step_s * busy
        past_s = step_s if config.history_rate is None else busy / config.history_rate
        named = config.start_time_s is not None or config.history_rate is not None
        clock = Clock(
            self.start_ns if named else ANCHOR_S * NS_PER_S,
            max(1, in_ns(step_s)),
            max(1, in_ns(past_s)),
            resolution_ns,
        )
        return Tape(
            Walk(pair, config.seed),
            clock,
            live_ns=self.start_ns,
            listed_ns=self.start_ns - in_ns(config.history_s),
            lost_ids=config.faults.lost_ids,
            start_id=FIRST_ID if named and config.start_id is None else config.start_id,
        )

    def _find_heads(self) -> None:
        self._heads = [self._head(subscription) for subscription in self.tapes]
        heapq.heapify(self._heads)

    def _head(self, subscription: str) -> tuple[int, str, int]:
        """(time, pair, number) of the pair's next trade."""
        tape = self.tapes[subscription]
        number = next(filter(tape.exists, count(tape.next)))
        return tape.time_ns(number), subscription, number

    def skip(self, subscription: str, ids: int) -> range:
        """Leaves the next ids of a pair out, so that no trade ever has them; gives them."""
        skipped = self.tapes[subscription].skip(ids)
        self._find_heads()
        return skipped

    def now_ns(self, stream_s: float) -> int:
        """The market's clock, `stream_s` seconds after the stream began."""
        if not self._config.rate:
            return self._newest_ns
        return max(self._newest_ns, self.start_ns + in_ns(stream_s * self._config.market_speed))

    def next_due_s(self) -> float | None:
        """When the next frame is due, in s since the stream began; None after the last."""
        if self._waiting:
            return 0.0
        if self._left == 0:
            return None
        due_ns = self._heads[0][0] - self.start_ns
        return due_ns / NS_PER_S / self._config.market_speed if self._config.rate else 0.0

    @property
    def _left(self) -> int | None:
        most = self._config.max_trades
        return None if most is None else most - self._made

    def pull(self, subscriptions: Sequence[str]) -> Event:
        """The next frame of trades, whatever is subscribed."""
        if not self._waiting:
            self._make()
        trades = self._waiting.popleft()
        return Event(
            self._encode(trades),
            subscription_of(trades[0].pair),
            self._newest_ns,
            ids=tuple(trade.id for trade in trades),
        )

    def _make(self) -> None:
        """Makes the trades of the next time, all of one pair, into frames."""
        self._newest_ns, subscription, number = heapq.heappop(self._heads)
        tape = self.tapes[subscription]
        same_time = takewhile(lambda later: tape.time_ns(later) == self._newest_ns, count(number))
        numbers = list(islice(filter(tape.exists, same_time), self._left))
        tape.next = numbers[-1] + 1
        self._made += len(numbers)
        heapq.heappush(self._heads, self._head(subscription))
        trades = [tape.trade(each) for each in numbers]
        if len(trades) > 1 and self._rng.random() < self._config.faults.disordered_ids:
            self._rng.shuffle(trades)
        self._waiting.extend([trades] if self._batches else ([trade] for trade in trades))
