"""A simulated market whose client fills its gaps, and what became of each of its trades."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptoflow.feeds.client import VenuesClient
from cryptoflow.feeds.endpoint import Endpoint
from cryptoflow.feeds.filler import Filling
from cryptoflow.feeds.gaps import Earlier, Gap, Standing
from cryptoflow.feeds.link import Patience
from cryptoflow.model.trade import Pair, Trade
from cryptoflow.simulator.config import VenueName
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow.venues import VENUES
from cryptoflow.venues.events import Recorded, Unreadable
from cryptoflow_tests.feeds.serving import RecordingSink, Running

SUBS: dict[VenueName, str] = {
    "coinbase": "0~Coinbase~BTC~USD",
    "binance": "0~Binance~BTC~USDT",
    "kraken": "0~Kraken~BTC~USD",
}
DAY_S = 86_400
WAIT_S = 30


@dataclass
class RecordingPast:
    """Keeps what it is given."""

    trades: list[Trade] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    standings: dict[Pair, Standing] = field(default_factory=dict)

    def put(self, trades: Sequence[Recorded], unreadable: Sequence[Unreadable], source: str, venue: str) -> None:
        assert not unreadable
        self.trades += [trade for trade, _ in trades]
        self.sources.add(source)

    def keep(self, standings: Mapping[Pair, Standing]) -> None:
        self.standings.update(standings)

    @property
    def ids(self) -> list[int]:
        return [int(trade.id) for trade in self.trades]

    @property
    def open(self) -> list[Gap]:
        return [gap for standing in self.standings.values() for gap in standing.gaps]


class TradeSink(RecordingSink):
    """Keeps the trades as they were read, too."""

    def __init__(self) -> None:
        super().__init__()
        self.trades: list[Trade] = []

    def trade(self, trade: Trade, frame: bytes) -> None:
        super().trade(trade, frame)
        self.trades.append(trade)


@contextmanager
def market(
    name: VenueName, rate: float = 200, start_s: float | None = None, step_s: float | None = None, **faults: Any
) -> Iterator[Simulator]:
    """A venue with one pair. Its limits leave room for more than one client: many tests share their address.

    Args:
        start_s, step_s: the exchange time of the first trade, and from trade to trade; None: the wall clock's.
    """
    config = SimulatorConfig(
        venue=name,
        rate=rate,
        pairs=(SUBS[name].split("~", 2)[2].replace("~", "-"),),
        limit_factor=5,
        start_time_s=start_s,
        time_step_s=step_s,
        faults=Faults(**faults),
    )
    with Simulator(config) as simulator:
        yield simulator


@contextmanager
def receiving(
    simulator: Simulator, past: RecordingPast, earlier: Earlier | None = None, limit_s: float = DAY_S
) -> Iterator[Running]:
    """A client of the market, for the length of the block."""
    name, sink, events = simulator.config.venue, TradeSink(), list[Any]()
    client = VenuesClient(
        [Endpoint(VENUES[name], simulator.url, (SUBS[name],), rest_url=simulator.rest_url)],
        sink,
        patience=Patience(min_delay_s=0.05, max_delay_s=0.2),
        on_event=events.append,
        earlier=earlier,
        filling=Filling(past, limit_s),
    )
    running = Running(client, sink, events)
    try:
        yield running
    finally:
        running.end()


def traded(simulator: Simulator) -> list[int]:
    """The ids of all that the market has traded since its start."""
    return [int(trade.id) for trade in simulator.trades(SUBS[simulator.config.venue])]


def lacking(simulator: Simulator, first: int, have: set[int]) -> list[int]:
    """The ids from the first on, to the newest that anybody has, that nobody has."""
    last = max(have, default=first)
    return [number for number in traded(simulator) if first <= number <= last and number not in have]


def wait_until_whole(simulator: Simulator, first: int, have: Callable[[], set[int]]) -> None:
    """Until somebody has each trade from the first one to the newest that has been made by now."""
    end = traded(simulator)[-1]

    def left() -> list[int]:
        return [number for number in lacking(simulator, first, have() | {end}) if number <= end]

    wait_for(lambda: end in have() and not left(), left)


def wait_for_more(items: Callable[[], Sequence[object]], more: int) -> None:
    """Until there are so many more of them."""
    count = len(items()) + more
    wait_for(lambda: len(items()) >= count)


def wait_for(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, what()
        threading.Event().wait(0.02)
