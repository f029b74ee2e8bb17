"""Where a feed's trades go."""

from typing import Protocol

from cryptoflow.model.trade import Trade


class Sink(Protocol):
    """Takes what a feed receives, one call at a time, from one thread.

    Both calls may block: the socket is then read slower. Both may raise: the run ends with that error.
    """

    def trade(self, trade: Trade, frame: bytes) -> None:
        """Take one new trade; `frame` is the JSON as it came."""

    def dead_letter(self, frame: bytes, reason: str) -> None:
        """Take one frame that can't be read, and why."""
