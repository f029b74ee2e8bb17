"""Laws of relaunching: at once after a failure, later and later after failures in a row, never after a user's word."""

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.runtime.relaunch import FIRST_DELAY_S, MAX_DELAY_S, SHORT_S, PastRun, delay_s, reason_to_wait

NOW_S = 1_763_900_000.0


def failed(ended_s: float, lasted_s: float = 1.0) -> PastRun:
    return PastRun("failed", ended_s - lasted_s, ended_s, failed=True)


def by_hand(ended_s: float) -> PastRun:
    return PastRun("by-hand", ended_s - 100, ended_s, failed=False, terminated_by_hand=True)


def in_a_row(count: int, newest_s: float) -> list[PastRun]:
    """Runs that failed at once, the newest first."""
    return [failed(newest_s - 1000 * i) for i in range(count)]


def test_a_first_run_is_launched_at_once() -> None:
    assert reason_to_wait([], 0, NOW_S) is None


def test_a_run_that_failed_is_followed_at_once() -> None:
    assert reason_to_wait(in_a_row(1, NOW_S), 0, NOW_S) is None


@given(st.lists(st.booleans(), max_size=12))
def test_runs_that_worked_for_a_while_are_followed_at_once_however_they_ended(failures: list[bool]) -> None:
    past = [PastRun("long", NOW_S - SHORT_S, NOW_S, failed=failure) for failure in failures]
    assert reason_to_wait(past, 0, NOW_S) is None


@given(st.integers(2, 12))
def test_the_next_run_waits_for_its_delay_and_not_longer(count: int) -> None:
    past = in_a_row(count, NOW_S)
    reason = reason_to_wait(past, 0, NOW_S + delay_s(count) - 0.01)
    assert reason is not None
    assert reason.startswith(f"The last {count} runs failed at once; the next one is launched at ")
    assert reason_to_wait(past, 0, NOW_S + delay_s(count)) is None


@given(st.integers(0, 1000))
def test_delays_double_up_to_the_longest(failures: int) -> None:
    assert delay_s(failures) <= delay_s(failures + 1) <= max(FIRST_DELAY_S, min(2 * delay_s(failures), MAX_DELAY_S))
    assert delay_s(1000) == MAX_DELAY_S


def test_a_run_that_worked_ends_the_row() -> None:
    past = [failed(NOW_S), failed(NOW_S - 10, lasted_s=SHORT_S), *in_a_row(5, NOW_S - 100)]
    assert reason_to_wait(past, 0, NOW_S) is None


@given(st.floats(0, 10**7))
def test_a_termination_by_hand_is_obeyed_for_as_long_as_it_takes(later_s: float) -> None:
    reason = reason_to_wait([by_hand(NOW_S)], NOW_S - 1000, NOW_S + later_s)
    assert reason is not None
    assert reason.startswith(
        "Paused: run by-hand was terminated by hand at 12:13:20 UTC. To go on, turn this sensor off"
    )


def test_it_is_over_when_the_sensor_is_turned_on_again() -> None:
    assert reason_to_wait([by_hand(NOW_S)], NOW_S + 1, NOW_S + 2) is None


def test_turning_the_sensor_on_again_forgets_failures_too() -> None:
    assert reason_to_wait(in_a_row(8, NOW_S), NOW_S + 1, NOW_S + 2) is None


def test_a_newer_run_ends_the_pause() -> None:
    assert reason_to_wait([PastRun("newer", NOW_S, NOW_S + 60, failed=True), by_hand(NOW_S)], 0, NOW_S + 60) is None
