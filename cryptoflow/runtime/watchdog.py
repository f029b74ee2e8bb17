"""Ends this process by force when its part makes no progress: a call into a JVM that hangs never comes back.

The run is dead then, and whoever keeps it alive launches the next one. What is not committed comes again with that.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cryptoflow.runtime.force import end_now

STALLED_S = 180.0
"""Without a beat for so long a part hangs. Above what it waits for a Kafka or Cassandra that is gone, 120 s by default,
after which it ends by itself, with the reason."""

START_S = 600.0
"""The same before the first beat: jars may have to be fetched, and a JVM started on a busy machine."""

LOOK_S = 1.0
"""Between two looks."""

LONGEST_STEP_S = 5.0
"""What counts at most from one look to the next: where it was longer this whole process stood still, its part too."""


class Pulse:
    """Whether a part makes progress. Pure: the clock, any monotonic one, in s, is handed in."""

    def __init__(self, now_s: float, start_s: float, stalled_s: float) -> None:
        self.limit_s, self._stalled_s = start_s, stalled_s
        self._looked_s, self._silent_s = now_s, 0.0
        self._beats = self._seen = 0

    def beat(self) -> None:
        """The part has come round once more; from any thread."""
        self._beats += 1

    def stalled(self, now_s: float) -> bool:
        """Whether the last beat is too long ago; to be asked all the time, since only what was looked at counts."""
        self._silent_s += min(now_s - self._looked_s, LONGEST_STEP_S)
        self._looked_s = now_s
        if (beats := self._beats) != self._seen:
            self._seen, self._silent_s, self.limit_s = beats, 0.0, self._stalled_s
        return self._silent_s >= self.limit_s


@contextmanager
def watched(promise: Callable[[float], None]) -> Iterator[Callable[[], None]]:
    """Gives what the block has to call as long as it makes progress; without that the process is ended by force.

    Args:
        promise: told at each beat for how long, in s, the part may be silent from now on; 0: it is ended for that.
    """
    pulse, over = Pulse(time.monotonic(), START_S, STALLED_S), threading.Event()

    def beat() -> None:
        pulse.beat()
        promise(STALLED_S)

    def watch() -> None:
        while not over.wait(LOOK_S):
            if pulse.stalled(time.monotonic()):
                promise(0)
                end_now(f"The run made no progress for {pulse.limit_s:g} s: it is ended by force.")

    promise(START_S)
    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield beat
    finally:
        over.set()
