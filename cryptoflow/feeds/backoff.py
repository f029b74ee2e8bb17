"""How long to wait before each reconnect."""

from collections.abc import Callable, Iterator

MIN_DELAY_S = 5.0
"""The feed asks for 5 s before a reconnect; it also keeps connects far below its limit of 60 a minute."""

MAX_DELAY_S = 60.0
"""No wait is longer."""


def backoff(
    random: Callable[[], float], min_delay_s: float = MIN_DELAY_S, max_delay_s: float = MAX_DELAY_S
) -> Iterator[float]:
    """Delays in s, without end, each between a bound and twice that; the bound doubles from `min_delay_s`.

    Args:
        random: a number in [0, 1) at each call; the jitter that keeps clients from reconnecting in step.
    """
    low_s = min_delay_s
    while True:
        yield min(low_s * (1 + random()), max(max_delay_s, min_delay_s))
        low_s = max(min_delay_s, min(2 * low_s, max_delay_s / 2))
