"""What a venue allows, and how often it was asked for more; times in s, from any monotonic clock."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol


class Limit(Protocol):
    """A limit on what one client may ask for."""

    def take(self, cost: float, now_s: float) -> float:
        """Takes `cost` and gives 0; or takes nothing, and gives the seconds until it could."""


class Bucket:
    """Holds up to `burst` and fills again by `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._held = burst
        self._since_s: float | None = None

    def take(self, cost: float, now_s: float) -> float:
        """As `Limit` says."""
        passed_s = now_s - (now_s if self._since_s is None else self._since_s)
        self._held = min(self._burst, self._held + passed_s * self._rate)
        self._since_s = now_s
        if self._held < cost - 1e-9:  # what has just filled up to it must not be short by a rounding
            return (cost - self._held) / self._rate
        self._held -= cost
        return 0.0


class Window:
    """Allows `most` in each period of `period_s`, one after the other."""

    def __init__(self, most: float, period_s: float) -> None:
        self._most = most
        self._period_s = period_s
        self._begin_s = -period_s
        self.used = 0.0
        """In the period of the last `take`."""

    def take(self, cost: float, now_s: float) -> float:
        """As `Limit` says."""
        if now_s >= self._begin_s + self._period_s:
            self._begin_s = now_s - now_s % self._period_s
            self.used = 0.0
        if self.used + cost > self._most:
            return self._begin_s + self._period_s - now_s
        self.used += cost
        return 0.0


@dataclass
class Tally:
    """What was asked of a venue."""

    requests: Counter[str] = field(default_factory=Counter)
    """How often each target (path and query) of the REST was asked for, refused requests included."""
    refused: Counter[str] = field(default_factory=Counter)
    """How many requests a limit, a fault or an outage refused, by the reason."""
    broken: Counter[str] = field(default_factory=Counter)
    """How often a client asked for more than the venue allows, by the limit's name."""
