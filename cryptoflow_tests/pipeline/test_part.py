"""Laws of a part's life: what ends it, in which order its steps come, and whom it tells meanwhile."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cryptoflow.errors import AggregationError
from cryptoflow.pipeline import part as part_module
from cryptoflow.pipeline.part import CLOSING_S, Part, RunContext, live
from cryptoflow.runtime import stop as stop_module
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.metrics import PartMetrics, RepairMetrics
from cryptoflow.runtime.stop import Stop

WAIT_S = 30
RUN = RunContext(Path("/a/home"), timeout_s=WAIT_S, report_every_s=0.01)


class Steps(Part[RepairMetrics]):
    """A part that notes what is asked of it; each step may fail, or take its time."""

    def __init__(self, **acts: Callable[[], object]) -> None:
        self.steps: list[str] = []
        self.looks = 0
        self._acts = acts

    def _step(self, name: str) -> None:
        if self.steps[-1:] != [name]:
            self.steps.append(name)
        self._acts.get(name, lambda: None)()

    def start(self) -> None:
        self._step("start")

    def check(self) -> None:
        self.looks += 1
        self._step("check")

    def over(self) -> bool:
        return bool(self._acts.get("over", lambda: False)())

    def drain(self, overdue: Callable[[], bool]) -> None:
        self.overdue = overdue
        self._step("drain")

    def stop(self) -> None:
        self._step("stop")

    def metrics(self) -> RepairMetrics:
        return RepairMetrics(hours=self.looks)


class Fed(Steps):
    """One that another part feeds."""

    fed_by_peer = True


WHOLE = ["start", "check", "drain", "stop"]


def failing(told: str) -> Callable[[], None]:
    def fail() -> None:
        raise AggregationError(told)

    return fail


def test_it_is_drained_and_then_stopped_after_a_stop() -> None:
    stop = Stop()
    part = Steps(check=stop.set)
    assert live(part, replace(RUN, stop=stop)) == part.metrics()
    assert part.steps == WHOLE


def test_it_ends_after_its_timeout_and_not_before() -> None:
    begun_s = time.monotonic()
    part = Steps()
    live(part, replace(RUN, timeout_s=0.6))
    assert 0.6 <= time.monotonic() - begun_s < WAIT_S
    assert part.steps == WHOLE


def test_its_time_counts_from_when_it_has_started() -> None:
    part = Steps(start=lambda: time.sleep(0.3))
    begun_s = time.monotonic()
    live(part, replace(RUN, timeout_s=0.3))
    assert time.monotonic() - begun_s >= 0.6


def test_it_ends_when_it_has_done_all_it_had_to() -> None:
    part = Steps(over=lambda: part.looks == 2)
    assert live(part, RUN).hours == 2
    assert part.steps == WHOLE


def test_it_ends_when_the_other_part_is_over() -> None:
    part = Steps()
    live(part, replace(RUN, peer_over=lambda: part.looks >= 2))
    assert part.steps == WHOLE


@pytest.mark.parametrize("step", ["start", "check", "drain"])
def test_whatever_fails_is_raised_and_it_is_stopped(step: str) -> None:
    part = Steps(**{step: failing(f"{step} failed")})
    with pytest.raises(AggregationError, match=f"{step} failed"):
        live(part, replace(RUN, timeout_s=0.3))
    assert part.steps == [*WHOLE[: WHOLE.index(step) + 1], "stop"]


def test_what_the_work_raised_is_raised_when_it_is_seen_to_be_over() -> None:
    part = Steps(over=failing("the work failed"))
    with pytest.raises(AggregationError, match="the work failed"):
        live(part, RUN)
    assert part.steps == ["start", "stop"]


def test_the_newest_metrics_are_told_while_it_lasts() -> None:
    told: list[PartMetrics] = []
    part = Steps(over=lambda: len(told) == 3)
    live(part, replace(RUN, report=told.append))
    assert told == [RepairMetrics(hours=looks) for looks in (1, 2, 3)]


def test_they_are_told_while_it_drains_too() -> None:
    told: list[PartMetrics] = []

    def drain() -> None:
        before, until_s = len(told), time.monotonic() + WAIT_S
        while len(told) < before + 2 and time.monotonic() < until_s:
            assert not part.overdue()

    part = Steps(over=lambda: True, drain=drain)
    live(part, replace(RUN, report=told.append))
    assert len(told) == 2


def test_a_part_that_another_feeds_waits_for_that_even_after_a_stop() -> None:
    stop = Stop()
    stop.set()
    asked: list[bool] = []

    def peer_over() -> bool:
        asked.append(True)
        return len(asked) == 2

    live(part := Fed(), replace(RUN, stop=stop, peer_over=peer_over))
    assert len(asked) == 2
    assert part.steps == WHOLE


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_module, "PEER_WAIT_S", 0.6)
    live(part := Fed(), replace(RUN, timeout_s=0.01, peer_over=lambda: False))
    assert part.steps == WHOLE


@pytest.mark.parametrize("kind", [Steps, Fed])
def test_there_is_nothing_to_await_without_another_part_or_for_one_that_feeds_itself(kind: type[Steps]) -> None:
    stop = Stop()
    stop.set()
    peer_over = None if kind is Fed else lambda: False
    live(part := kind(), replace(RUN, stop=stop, peer_over=peer_over))
    assert part.steps == ["start", "drain", "stop"]


def test_a_drain_is_limited_only_when_somebody_wants_the_part_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, part = Stop(), Steps(over=lambda: True)
    live(part, replace(RUN, stop=stop))
    assert not part.overdue()
    stop.set()
    assert not part.overdue()
    monkeypatch.setattr(stop_module, "SHUTDOWN_S", CLOSING_S - 1)
    hurried = Stop()
    live(part, replace(RUN, stop=hurried))
    hurried.set()
    assert part.overdue()


def test_a_holder_is_waited_for_while_his_run_is_ending_and_this_one_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ending, other = (Holder.current(run, Path("/a/home")) for run in ("ending", "other"))
    run = RunContext(Path("/a/home"), is_ending=lambda run_id: run_id == "ending")
    waits = run.waits()
    assert (waits(ending), waits(other)) == (True, False)
    monkeypatch.setattr(part_module, "SHUTDOWN_S", 0.01)
    hurried = run.waits()
    threading.Event().wait(0.02)
    assert not hurried(ending)
    run.stop.set()
    assert not waits(ending)


def test_a_part_holds_leases_in_the_name_of_its_run() -> None:
    holder = RunContext(Path("/a/home"), "run-1").holder()
    assert (holder.run, holder.home, holder.is_gone()) == ("run-1", "/a/home", False)
