"""When a run that is kept alive is launched again, and why not yet. Pure: the clock is handed in."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import takewhile

import msgspec

SHORT_S = 20.0
"""A run that failed within this time failed at once, and the next one most likely will too."""

FIRST_DELAY_S = 15.0
"""Before the run after the second failure in a row; twice as long after each further one."""

MAX_DELAY_S = 900.0
"""The longest delay: a user who has mended the cause does not wait for hours."""


class PastRun(msgspec.Struct, frozen=True):
    """A run that is over; times in s since the epoch."""

    run_id: str
    started_s: float
    ended_s: float
    failed: bool
    terminated_by_hand: bool = False


def delay_s(failures: int) -> float:
    """How long to wait after so many runs in a row that failed at once; the first is followed without delay."""
    return min(FIRST_DELAY_S * 2.0 ** min(failures - 2, 10), MAX_DELAY_S) if failures > 1 else 0.0


def reason_to_wait(past: Sequence[PastRun], since_s: float, now_s: float) -> str | None:
    """Why no run is launched at `now_s`; None: launch one.

    Args:
        past: the last runs, the newest first.
        since_s: when a user last told the runs to go on; what ended before does not count.
    """
    counted = list(takewhile(lambda run: run.ended_s > since_s, past))
    if not counted:
        return None
    newest = counted[0]
    if newest.terminated_by_hand:
        return (
            f"Paused: run {newest.run_id} was terminated by hand at {_clock(newest.ended_s)}. "
            "To go on, turn this sensor off and on again, or launch a run."
        )
    failures = len(list(_failed_at_once(counted)))
    next_s = newest.ended_s + delay_s(failures)
    if now_s < next_s:
        return f"The last {failures} runs failed at once; the next one is launched at {_clock(next_s)}."
    return None


def _failed_at_once(past: Sequence[PastRun]) -> Iterator[PastRun]:
    return takewhile(lambda run: run.failed and run.ended_s - run.started_s < SHORT_S, past)


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%H:%M:%S UTC")
