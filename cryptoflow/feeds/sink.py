"""Where a feed's trades go, and those of its past."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from cryptoflow.feeds.gaps import Standing
from cryptoflow.model.trade import Pair, Trade
from cryptoflow.venues.events import Recorded, Unreadable


class Sink(Protocol):
    """Takes what a feed receives, one call at a time, from one thread.

    Both calls may block: the socket is then read slower. Both may raise: the run ends with that error.
    """

    def trade(self, trade: Trade, frame: bytes) -> None:
        """Take one new trade; `frame` is the JSON as it came."""

    def dead_letter(self, frame: bytes, reason: str, *, venue: str = "") -> None:
        """Take one frame that can't be read, why, and by its name the venue that sent it."""


class Past(Protocol):
    """Takes what was found of the past, from any threads. The calls block until all is safe, and may raise."""

    def put(self, trades: Sequence[Recorded], unreadable: Sequence[Unreadable], source: str, venue: str) -> None:
        """Take trades, and rows that can't be read.

        Args:
            source: the address that they come from.
            venue: its name.
        """

    def keep(self, standings: Mapping[Pair, Standing]) -> None:
        """Take how some pairs stand, in place of how they stood."""
