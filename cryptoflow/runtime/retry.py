"""What fails for a reason that passes is tried again for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
"""Between two tries; each pause is twice the one before."""


def retried(call: Callable[[], Result], passing: tuple[type[Exception], ...], for_s: float) -> Result:
    """What `call` gives, which is made again while it raises one of `passing`: it must do no harm to do it twice.

    Raises:
        Exception: another one of the call's; or one of `passing`, when that has gone on for `for_s`.
    """
    until_s, pause_s = time.monotonic() + for_s, FIRST_PAUSE_S
    while True:
        try:
            return call()
        except passing:
            if time.monotonic() > until_s:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
