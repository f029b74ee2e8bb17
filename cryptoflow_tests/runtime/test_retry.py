"""The laws of trying again."""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import pytest

from cryptoflow.runtime import retry
from cryptoflow.runtime.retry import FIRST_PAUSE_S, LONGEST_PAUSE_S, retried


@pytest.fixture
def pauses_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, by a clock that they alone move."""
    made: list[float] = []
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: sum(made), sleep=made.append))
    return made


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    return call


@pytest.mark.parametrize("times", [0, 1, 7])
def test_it_is_tried_until_it_succeeds(pauses_s: list[float], times: int) -> None:
    assert retried(failing(times, OSError()), (OSError,), 60) == "done"
    assert len(pauses_s) == times


def test_pauses_grow_to_the_longest(pauses_s: list[float]) -> None:
    retried(failing(9, OSError()), (OSError,), 60)
    assert pauses_s[0] == FIRST_PAUSE_S
    assert pauses_s[-1] == LONGEST_PAUSE_S
    assert all(later == min(2 * earlier, LONGEST_PAUSE_S) for earlier, later in pairwise(pauses_s))


def test_what_does_not_pass_in_time_is_raised(pauses_s: list[float]) -> None:
    with pytest.raises(OSError, match="gone"):
        retried(failing(1000, OSError("gone")), (OSError,), 10)
    assert 10 < sum(pauses_s) <= 10 + LONGEST_PAUSE_S


def test_what_is_no_passing_reason_is_raised_at_once(pauses_s: list[float]) -> None:
    with pytest.raises(KeyError):
        retried(failing(1, KeyError()), (OSError, ValueError), 10)
    assert not pauses_s
