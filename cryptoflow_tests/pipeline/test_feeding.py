"""Laws of a feed's client at work: it receives until its end, is gone then, and its errors are heard."""

import threading

import pytest

from cryptoflow.errors import AggregationError, UnauthorizedError
from cryptoflow.feeds.client import FeedClient
from cryptoflow.model.trade import Trade
from cryptoflow.pipeline.feeding import Feeding
from cryptoflow.testing import Faults, Simulator, SimulatorConfig

WAIT_S = 30
SUBSCRIPTIONS = ["0~Coinbase~BTC~USD"]


class CountingSink:
    """Counts, and tells when it has the first trade."""

    def __init__(self) -> None:
        self.trades = 0
        self.first = threading.Event()

    def trade(self, trade: Trade, frame: bytes) -> None:
        self.trades += 1
        self.first.set()

    def dead_letter(self, frame: bytes, reason: str, *, venue: str = "") -> None:
        raise AssertionError(reason)


class FullSink(CountingSink):
    """Takes no trade."""

    def trade(self, trade: Trade, frame: bytes) -> None:
        super().trade(trade, frame)
        raise AggregationError("the sink is full")


def left() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("feed")]


def test_it_receives_until_its_end_and_is_gone() -> None:
    sink = CountingSink()
    with Simulator(SimulatorConfig(rate=200)) as simulator:
        feeding = Feeding(FeedClient(simulator.url, SUBSCRIPTIONS, sink))
        feeding.start()
        assert sink.first.wait(WAIT_S)
        feeding.check()
        feeding.end()
        assert feeding.metrics().trades == sink.trades > 0
        assert feeding.metrics().connects == 1
        simulator.wait_until(lambda: simulator.connections == 0, WAIT_S)
    assert left() == []


@pytest.mark.parametrize("begun", [True, False])
def test_a_stop_ends_it_too_also_where_it_has_not_begun(begun: bool) -> None:
    with Simulator() as simulator:
        feeding = Feeding(FeedClient(simulator.url, SUBSCRIPTIONS, CountingSink()))
        if begun:
            feeding.start()
        feeding.stop()
    assert left() == []


def heard(feeding: Feeding, error: type[Exception]) -> None:
    """See that the error is raised by a look, and by the end."""

    def look() -> None:
        while not threading.Event().wait(0.02):
            feeding.check()

    with pytest.raises(error):
        look()
    with pytest.raises(error):
        feeding.end()
    feeding.stop()


def test_the_clients_error_is_raised_where_somebody_looks() -> None:
    with Simulator(SimulatorConfig(faults=Faults(api_keys=("good",)))) as simulator:
        feeding = Feeding(FeedClient(simulator.url, SUBSCRIPTIONS, CountingSink(), api_key="bad"))
        feeding.start()
        heard(feeding, UnauthorizedError)


def test_the_sinks_error_too() -> None:
    with Simulator() as simulator:
        feeding = Feeding(FeedClient(simulator.url, SUBSCRIPTIONS, FullSink()))
        feeding.start()
        heard(feeding, AggregationError)
