"""Laws of supervision: what ends a part, what it tells meanwhile, and whose error it raises."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cryptoflow.errors import AggregationError, UnauthorizedError
from cryptoflow.feeds.client import FeedClient, FeedStats
from cryptoflow.model.trade import Trade
from cryptoflow.pipeline import supervision as supervision_module
from cryptoflow.pipeline.supervision import (
    CLOSING_S,
    Control,
    FeedThread,
    Figures,
    feed_figures,
)
from cryptoflow.runtime import stop as stop_module
from cryptoflow.runtime.holder import Holder
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

    def dead_letter(self, frame: bytes, reason: str) -> None:
        raise AssertionError(reason)


class FullSink(CountingSink):
    """Takes no trade."""

    def trade(self, trade: Trade, frame: bytes) -> None:
        raise AggregationError("the sink is full")


def fine() -> None:
    """A check that finds nothing wrong."""


def no_figures() -> Figures:
    return {}


def supervised(control: Control, check: Callable[[], None] = fine) -> threading.Thread:
    """A thread that supervises by `control`."""
    thread = threading.Thread(target=control.supervise, args=(check, no_figures))
    thread.start()
    return thread


def test_it_ends_on_stop() -> None:
    checked = threading.Event()
    control = Control()
    thread = supervised(control, checked.set)
    assert checked.wait(WAIT_S)
    assert thread.is_alive()
    control.stop.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_it_ends_after_its_timeout_and_not_before() -> None:
    begun_s = time.monotonic()
    Control(timeout_s=0.6).supervise(fine, no_figures)
    assert 0.6 <= time.monotonic() - begun_s < WAIT_S


def test_it_ends_when_the_other_part_is_over() -> None:
    over = threading.Event()
    asked = threading.Event()

    def peer_over() -> bool:
        asked.set()
        return over.is_set()

    thread = supervised(Control(peer_over=peer_over, report_every_s=0.01))
    assert asked.wait(WAIT_S)
    over.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_what_the_check_finds_is_raised() -> None:
    def broken() -> None:
        raise AggregationError("the query failed")

    with pytest.raises(AggregationError, match="the query failed"):
        Control(timeout_s=WAIT_S).supervise(broken, no_figures)


def test_the_newest_figures_are_told_while_it_lasts() -> None:
    told: list[Figures] = []
    control = Control(report_every_s=0.01)

    def report(figures: Figures) -> None:
        told.append(figures)
        if len(told) == 3:
            control.stop.set()

    control.report = report
    control.supervise(fine, lambda: {"looks": len(told)})
    assert told == [{"looks": 0}, {"looks": 1}, {"looks": 2}]


def test_the_other_part_is_awaited_even_after_a_stop() -> None:
    asked: list[bool] = []

    def peer_over() -> bool:
        asked.append(True)
        return len(asked) == 2

    control = Control(peer_over=peer_over, report_every_s=0.01)
    control.stop.set()
    control.await_peer(fine, no_figures)
    assert len(asked) == 2


def test_there_is_nothing_to_await_without_another_part() -> None:
    def check() -> None:
        raise AssertionError("it watched")

    Control().await_peer(check, no_figures)


def test_a_drain_is_limited_only_when_somebody_wants_the_part_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control(timeout_s=1)
    assert not control.drain_overdue()
    control.stop.set()
    assert not control.drain_overdue()
    monkeypatch.setattr(stop_module, "SHUTDOWN_S", CLOSING_S - 1)
    hurried = Control(timeout_s=1)
    hurried.stop.set()
    assert hurried.drain_overdue()


class Work:
    """Goes on until it is told to end, or canceled."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()
        self.canceled = False

    def __call__(self) -> None:
        self.begun.set()
        assert self.over.wait(WAIT_S)

    def cancel(self) -> None:
        self.canceled = True
        self.over.set()


def test_work_aside_is_awaited_and_its_figures_are_told_meanwhile() -> None:
    work, told = Work(), list[Figures]()
    control = Control(report_every_s=0.01)

    def report(figures: Figures) -> None:
        told.append(figures)
        if len(told) == 2:
            work.over.set()

    control.report = report
    control.await_work(work, fine, lambda: {"looks": len(told)}, work.cancel)
    assert told[:2] == [{"looks": 0}, {"looks": 1}]
    assert not work.canceled


def test_what_the_work_raises_is_raised() -> None:
    def broken() -> None:
        raise AggregationError("the batch failed")

    with pytest.raises(AggregationError, match="the batch failed"):
        Control().await_work(broken, fine, no_figures, fine)


def test_work_is_canceled_when_the_check_finds_something_wrong() -> None:
    work = Work()

    def check() -> None:
        assert work.begun.wait(WAIT_S)
        raise AggregationError("the lease is lost")

    with pytest.raises(AggregationError, match="the lease is lost"):
        Control().await_work(work, check, no_figures, work.cancel)
    assert work.canceled


def test_work_goes_on_when_the_other_part_is_over() -> None:
    # The ingester of a timed run ends while a backlog is worked off: that is no reason to leave it to the stream.
    work, told = Work(), list[Figures]()
    control = Control(peer_over=lambda: True, report_every_s=0.01)

    def report(figures: Figures) -> None:
        told.append(figures)
        if len(told) == 3:
            work.over.set()

    control.report = report
    control.await_work(work, fine, no_figures, work.cancel)
    assert len(told) >= 3
    assert not work.canceled


def test_work_may_take_what_a_stop_leaves_it_and_is_canceled_then(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    control = Control()
    control.stop.set()
    waiting = threading.Thread(target=control.await_work, args=(work, fine, no_figures, work.cancel))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    work.over.set()
    waiting.join(WAIT_S)
    assert not work.canceled
    monkeypatch.setattr(stop_module, "SHUTDOWN_S", CLOSING_S + 0.1)
    hurried, long = Control(), Work()
    hurried.stop.set()
    hurried.await_work(long, fine, no_figures, long.cancel)
    assert long.canceled


def test_the_time_counts_once_from_the_first_call_and_the_other_part_is_part_of_the_end() -> None:
    over = threading.Event()
    control = Control(timeout_s=0.05, peer_over=over.is_set)
    begun = control.begin()
    assert control.begin() is begun
    control.supervise(fine, no_figures)
    assert begun.passed
    assert not control.is_over()
    over.set()
    assert control.is_over()
    assert not Control(timeout_s=WAIT_S).is_over()
    stopped = Control()
    assert not stopped.is_over()
    stopped.stop.set()
    assert stopped.is_over()


def test_a_holder_is_waited_for_while_his_run_is_ending_and_this_one_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ending, other = (Holder.current(run, Path("/a/home")) for run in ("ending", "other"))
    control = Control(is_ending=lambda run: run == "ending")
    waits = control.waits()
    assert (waits(ending), waits(other)) == (True, False)
    monkeypatch.setattr(supervision_module, "SHUTDOWN_S", 0.01)
    hurried = control.waits()
    time.sleep(0.02)
    assert not hurried(ending)
    control.stop.set()
    assert not waits(ending)


def test_a_feed_thread_streams_until_its_end_and_is_gone() -> None:
    sink = CountingSink()
    with Simulator(SimulatorConfig(rate=200)) as simulator:
        client = FeedClient(simulator.url, SUBSCRIPTIONS, sink)
        with FeedThread(client) as thread:
            assert sink.first.wait(WAIT_S)
            thread.check()
            stats = thread.end()
        assert stats.trades == sink.trades > 0
        simulator.wait_until(lambda: simulator.connections == 0, WAIT_S)
    assert "feed" not in {each.name for each in threading.enumerate()}


def test_a_feed_thread_is_gone_when_its_block_fails() -> None:
    with Simulator() as simulator:
        client = FeedClient(simulator.url, SUBSCRIPTIONS, CountingSink())
        with pytest.raises(AggregationError), FeedThread(client):
            raise AggregationError("x")
    assert "feed" not in {each.name for each in threading.enumerate()}


def test_the_clients_error_is_raised_where_somebody_looks() -> None:
    with Simulator(SimulatorConfig(faults=Faults(api_keys=("good",)))) as simulator:
        client = FeedClient(simulator.url, SUBSCRIPTIONS, CountingSink(), api_key="bad")
        with FeedThread(client) as thread:
            with pytest.raises(UnauthorizedError):
                Control(timeout_s=WAIT_S).supervise(thread.check, no_figures)
            with pytest.raises(UnauthorizedError):
                thread.end()


def test_the_sinks_error_too() -> None:
    with (
        Simulator() as simulator,
        FeedThread(FeedClient(simulator.url, SUBSCRIPTIONS, FullSink())) as thread,
        pytest.raises(AggregationError, match="full"),
    ):
        Control(timeout_s=WAIT_S).supervise(thread.check, no_figures)


def test_figures_are_numbers_by_their_names() -> None:
    stats = FeedStats(frames=9, trades=5, duplicates=1, unreadable=1, connects=2, gap_count=3)
    assert feed_figures(stats) == {
        "frames": 9,
        "trades": 5,
        "duplicates": 1,
        "unreadable": 1,
        "connects": 2,
        "gaps": 3,
        "refused_subscriptions": 0,
    }
