"""What a simulated venue is: its protocol on both sides of the socket and behind its REST, without I/O.

`Venue` is what the server asks of any; `Exchange` adds what those have whose market never stands still.
"""

import http
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import msgspec

from cryptoflow.errors import BadParameterError, ConfigError, SocketLeftError
from cryptoflow.model.trade import DECODE_ERRORS, NS_PER_S, Pair
from cryptoflow.simulator.bars import MINUTE_S, Bar, Bars
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.events import Event, Kind, in_ns, pair_of, subscription_of
from cryptoflow.simulator.limits import Limit, Tally, Window
from cryptoflow.simulator.market import Market, Traded
from cryptoflow.simulator.past import Past, RecordedPast
from cryptoflow.simulator.replay import Replay
from cryptoflow.simulator.rest import Answer, Request, whole_seconds
from cryptoflow.simulator.stages import Fields

SETTLE_S = 0.5
"""A client asks for its pairs one by one: a replay that began with the first would be past the others' trades."""


class Source(Protocol):
    """Where frames come from."""

    @property
    def dated_back(self) -> bool:
        """Whether the source makes late trades by itself."""

    def next_due_s(self) -> float | None:
        """When the next event is due, in s since the stream began; None after the last."""

    def pull(self, subscriptions: Sequence[str]) -> Event:
        """The next event; `subscriptions` are those that somebody listens to."""


class Arrival(NamedTuple):
    """A client that asks for a websocket."""

    target: str
    """Path and query."""
    headers: Mapping[str, str]
    client: str
    """Its address."""
    active: int
    """Sockets that are open now."""
    now_s: float
    """Of a monotonic clock."""
    uptime_s: float
    now_ms: int
    """Of the wall clock."""


class Subscriber(ABC):
    """One client's subscriptions and what it is answered."""

    @property
    @abstractmethod
    def subscriptions(self) -> Iterable[str]:
        """The trades that it gets: 0~MARKET~COIN~CURRENCY, in the order of its asking."""

    @property
    def subscribed(self) -> bool:
        """Whether it has asked for anything."""
        return any(True for _ in self.subscriptions)

    @abstractmethod
    def receive(self, frame: bytes) -> list[Event]:
        """The answer to a client's frame, in the order to send it.

        Raises:
            SocketLeftError: the venue ends the socket.
        """

    def opened(self) -> list[bytes]:
        """What it gets first."""
        return []

    def beat(self, *, idle: bool) -> list[bytes]:
        """What it gets at each heartbeat; `idle`: it has got nothing since the last."""
        return []

    def goodbye(self) -> list[bytes]:
        """The venue's notice before it ends the socket."""
        return []

    def too_fast(self) -> list[bytes]:
        """The answer to more frames than the venue allows.

        Raises:
            SocketLeftError: the venue ends the socket.
        """
        raise SocketLeftError(code=1008, reason="Too many requests")

    def dress(self, frame: bytes) -> bytes:
        """A frame of the stream as this client gets it."""
        return frame


class Inbound(NamedTuple):
    """How many frames a client may send."""

    most: int
    period_s: float
    pongs_count: bool = False
    """Whether pings and pongs count as well."""


class Venue(ABC):
    """A venue's side of the protocol.

    Args:
        clock_ns: the wall clock, in ns since the epoch.
    """

    name: ClassVar[str]
    """As CryptoCompare names the market."""
    path: ClassVar[str] = "/"
    """Of its websocket."""
    rest_path: ClassVar[str | None] = None
    """That of its REST begin with it; None: it has none."""
    ping_s: ClassVar[float] = 30.0
    pong_within_s: ClassVar[float] = 20.0
    heartbeat_s: ClassVar[float | None] = None
    lifetime_s: ClassVar[float | None] = None
    """How long a socket may live."""
    subscribe_within_s: ClassVar[float | None] = None
    inbound: ClassVar[Inbound | None] = None
    slow_for_s: ClassVar[float | None] = None
    """How long a client may be behind with reading before it is dropped; None: the stream waits for it."""
    fields: ClassVar[Fields]
    """Where its frame holds a trade."""

    source: Source

    def __init__(self, config: SimulatorConfig, clock_ns: Callable[[], int]) -> None:
        self.config = config
        self.faults = config.faults
        self.clock_ns = clock_ns
        self.tally = Tally()
        self.maintained = False
        """Whether it is in maintenance now."""
        self.stream_s: Callable[[], float] = lambda: 0.0
        """How long the stream runs; set by whoever lets it run."""

    @property
    def runs_on(self) -> bool:
        """Whether the stream goes on while nobody listens."""
        return False

    @property
    def settle_s(self) -> float:
        """How long the stream, where it stood still, waits for one more request to subscribe."""
        return 0.0

    @property
    def market(self) -> Market | None:
        """Where its trades are made, if it has one."""
        return None

    @abstractmethod
    def read(self, frame: bytes) -> Event | None:
        """A recorded frame as an event; None if it is an answer, which the simulator gives by itself."""

    def note(self, event: Event) -> None:  # noqa: B027 - most need not know
        """Is told of each event that is sent."""

    def door(self, arrival: Arrival) -> Answer | None:
        """What a client gets in place of a websocket; None: it gets one."""
        return None

    def refusal(self, arrival: Arrival) -> bytes | None:
        """What a client gets on its websocket before the close; None: it is let in."""
        return None

    @abstractmethod
    def admit(self, arrival: Arrival) -> Subscriber:
        """The session of a client that is let in."""

    def outage(self, *, maintenance: bool) -> Answer:
        """What every request gets while the venue refuses all, or is in maintenance."""
        status = http.HTTPStatus(503 if maintenance else self.faults.refuse_status)
        return Answer(status, status.phrase.encode(), {"Content-Type": "text/plain"})

    def check(self, request: Request, now_s: float) -> Answer | None:
        """Counts a request, and refuses it if it is one too many; `now_s` of a monotonic clock."""
        raise NotImplementedError("a venue without a REST is not asked")

    def tell(self, request: Request) -> Answer:
        """The answer to a request that was not refused; computes, but changes nothing that others see."""
        raise NotImplementedError("a venue without a REST is not asked")


def _turned_away(wait_s: float) -> Answer:
    said = http.HTTPStatus.TOO_MANY_REQUESTS
    headers = {"Content-Type": "text/plain", "Retry-After": whole_seconds(wait_s)}
    return Answer(said, said.phrase.encode(), headers)


class Exchange(Venue):
    """A venue with a market of its own that REST and websocket tell of."""

    default_pairs: ClassVar[tuple[str, ...]]
    resolution_ns: ClassVar[int]
    """Of its times."""
    batches: ClassVar[bool] = False
    """Whether a frame may hold several trades."""
    slow_for_s = 5.0

    def __init__(self, config: SimulatorConfig, clock_ns: Callable[[], int]) -> None:
        super().__init__(config, clock_ns)
        self._rng = random.Random(f"{config.seed} rest")
        self._limits: dict[object, Limit] = {}
        self._recorded: dict[str, RecordedPast] = {}
        self._newest_ns = 0
        traded = config.pairs or (self.default_pairs if config.replay is None else ())
        self.pairs = {self.symbol(pair): pair for pair in map(self._pair, traded)}
        """By the venue's own names; a replay has every one that it is asked for."""
        self._market: Market | None = None
        if config.replay is not None:
            self.source = Replay(config.replay, config.speed, self.read, venue=config.venue, taken=self._take)
            return
        self.source = self._market = Market(
            config,
            tuple(self.pairs.values()),
            self.encode,
            batches=self.batches,
            start_ns=clock_ns(),
            resolution_ns=self.resolution_ns,
        )
        self._bars = {name: Bars(tape, self.faults.klines_off) for name, tape in self._market.tapes.items()}

    def _pair(self, text: str) -> Pair:
        coin, _, currency = text.partition("-")
        pair = self.name, coin.upper(), currency.upper()
        if pair_of(subscription_of(pair)) is None:
            raise ConfigError(f"{text!r} is no pair; give one such as BTC-USD.")
        return pair

    # What each of them says for itself

    @abstractmethod
    def symbol(self, pair: Pair) -> str:
        """The websocket's name of a pair."""

    @abstractmethod
    def named(self, symbol: str) -> Pair | None:
        """The pair that a symbol names, whether the venue has it or not; None if it is no symbol."""

    @abstractmethod
    def encode(self, trades: Sequence[Traded]) -> bytes:
        """The frame of trades of one pair and time."""

    @abstractmethod
    def decode(self, frame: bytes) -> Sequence[Traded]:
        """The trades of a recorded frame; none if it is an answer or a sign of life.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: it is no frame of the venue's.
            DECODE_ERRORS: it is no JSON.
        """

    def sign(self, frame: bytes) -> str | None:
        """The subscription of a recorded sign of life, which a replay sends as well; None if it is another frame."""
        return None

    @abstractmethod
    def connects(self) -> Limit:
        """The limit on the sockets that one address opens."""

    @abstractmethod
    def limits(self, request: Request) -> Iterable[tuple[str, object, Callable[[], Limit], float]]:
        """The limits that a request counts against: (name, whose, how to make it, cost)."""

    @abstractmethod
    def too_many(self, wait_s: float) -> Answer:
        """The answer to a request too many."""

    @abstractmethod
    def failure(self) -> Answer:
        """The answer to a request on which the venue itself fails."""

    @abstractmethod
    def route(self, request: Request) -> Answer:
        """The answer to any other request.

        Raises:
            BadParameterError: a parameter can't be read.
        """

    @abstractmethod
    def unknown(self) -> Answer:
        """The answer to a path that it does not have."""

    @abstractmethod
    def bad_parameter(self, name: str) -> Answer:
        """The answer to a parameter that can't be read."""

    # What they have in common

    @property
    def market(self) -> Market | None:
        return self._market

    @property
    def runs_on(self) -> bool:
        return self._market is not None and self.config.rate > 0

    @property
    def settle_s(self) -> float:
        return SETTLE_S if self._market is None else 0.0

    def now_ns(self) -> int:
        """The venue's clock, in ns since the epoch."""
        return self._newest_ns if self._market is None else self._market.now_ns(self.stream_s())

    def has(self, symbol: str) -> str | None:
        """The subscription that a symbol stands for, if the venue has it and does not refuse it."""
        pair = self.pairs.get(symbol)
        if pair is None and self._market is None and (pair := self.named(symbol)):
            if pair_of(subscription_of(pair)) is None:
                return None
            self.pairs[symbol] = pair
        subscription = pair and subscription_of(pair)
        return None if subscription in self.faults.refused_subscriptions else subscription

    def last(self, subscription: str, trades: int) -> list[Traded]:
        """The newest trades of a pair, oldest first, whether they were sent or not."""
        pair = pair_of(subscription)
        assert pair is not None
        tape = self.tape(pair)
        newest = [tape.trade(number) for number, _ in zip(tape.before(tape.next), range(trades), strict=False)]
        return newest[::-1]

    def read(self, frame: bytes) -> Event | None:
        try:
            trades = self.decode(frame)
            sign = None if trades else self.sign(frame)
            answered = not trades and sign is None and isinstance(msgspec.json.decode(frame), dict)
        except (*DECODE_ERRORS, ValueError, TypeError, LookupError, AttributeError):  # broken, as it was recorded
            return Event(frame, None, 0, Kind.MALFORMED)
        if trades:
            ids = tuple(trade.id for trade in trades)
            return Event(frame, subscription_of(trades[0].pair), max(trade.time_ns for trade in trades), ids=ids)
        return None if answered else Event(frame, sign, 0, Kind.CONTROL)

    def _take(self, event: Event) -> None:
        """Keep the trades of a recording's frame, whether it is sent or a fault loses it."""
        self._newest_ns = max(self._newest_ns, event.stream_ns)
        for trade in self.decode(event.frame) if event.ids else ():
            self._past(trade.pair).add(trade)

    def door(self, arrival: Arrival) -> Answer | None:
        limit = self.faults.max_sockets
        if limit is not None and arrival.active >= limit:
            self.tally.broken["sockets"] += 1
            return _turned_away(self.faults.retry_after_s)
        for whose, make in ((arrival.client, self.connects), ("anybody", self._connects_asked_for)):
            if wait_s := self._limit(("connects", whose), make).take(1, arrival.now_s):
                self.tally.broken["connects"] += 1
                return _turned_away(wait_s)
        return None

    def _connects_asked_for(self) -> Limit:
        most = self.faults.max_connects_per_minute
        return Window(math.inf if most is None else most, 60.0)

    def _limit(self, key: object, make: Callable[[], Limit]) -> Limit:
        return self._limits.get(key) or self._limits.setdefault(key, make())

    def check(self, request: Request, now_s: float) -> Answer | None:
        self.tally.requests[request.target] += 1
        for name, whose, make, cost in self.limits(request):
            if wait_s := self._limit((name, whose), make).take(cost, now_s):
                self.tally.broken[name] += 1
                self.tally.refused[name] += 1
                return self.too_many(wait_s)
        drawn = self._rng.random()
        if drawn < self.faults.rest_too_many:
            self.tally.refused["rest_too_many"] += 1
            return self.too_many(self.faults.retry_after_s)
        if drawn < self.faults.rest_too_many + self.faults.rest_errors:
            self.tally.refused["rest_errors"] += 1
            return self.failure()
        return None

    def tell(self, request: Request) -> Answer:
        if request.path.endswith(self.faults.rest_lacks):
            return self.unknown()
        try:
            return self.route(request)
        except BadParameterError as error:
            return self.bad_parameter(error.name)

    def tape(self, pair: Pair) -> Past:
        """All trades of a pair that the venue has."""
        return self._past(pair) if self._market is None else self._market.tapes[subscription_of(pair)]

    def _past(self, pair: Pair) -> RecordedPast:
        return self._recorded.setdefault(subscription_of(pair), RecordedPast(pair))

    def visible(self, tape: Past) -> int:
        """The number of the first trade that the REST does not tell yet."""
        lag_s = self.faults.rest_lag_s
        return min(tape.next, tape.at(self.now_ns() - in_ns(lag_s))) if lag_s else tape.next

    def listed_s(self, pair: Pair) -> int:
        """The minute of the first trade of all, in s since the epoch."""
        tape = self.tape(pair)
        first_ns = tape.time_ns(tape.first) if tape.first < tape.next else self.now_ns()
        return first_ns // NS_PER_S // MINUTE_S * MINUTE_S

    def bars(self, pair: Pair, start_s: int, end_s: int, width_s: int) -> list[Bar]:
        """The pair's candles, as `Bars.range` gives them."""
        tape = self.tape(pair)
        # Those of a recording are made each time: one more trade may come in among the old ones.
        bars = Bars(tape, 0) if self._market is None else self._bars[subscription_of(pair)]
        return bars.range(start_s, end_s, width_s, self.visible(tape))
