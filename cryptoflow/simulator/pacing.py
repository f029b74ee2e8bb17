"""The time of a stream that stands still while nobody listens."""


class Stopwatch:
    """Counts the seconds during which it runs; times in s, from any monotonic clock."""

    def __init__(self) -> None:
        self._counted_s = 0.0
        self._since_s: float | None = None

    def start(self, now_s: float) -> None:
        """Runs on, if it does not run."""
        self._since_s = now_s if self._since_s is None else self._since_s

    def stop(self, now_s: float) -> None:
        """Stands still."""
        self._counted_s, self._since_s = self.read(now_s), None

    def read(self, now_s: float) -> float:
        """The seconds counted so far."""
        return self._counted_s + (now_s - self._since_s if self._since_s is not None else 0.0)
