"""How much a simulator has sent."""

from dataclasses import dataclass

from cryptoflow.simulator.events import FRESH, Event, Kind


@dataclass
class Sent:
    """Counters; a frame that goes to two clients counts twice, except in `distinct`."""

    frames: int = 0
    """All but the protocol's own answers, errors and heartbeats."""
    trades: int = 0
    """Readable trades, duplicates included."""
    distinct: int = 0
    """Trades of the stream that somebody was sent; what a replay's file itself repeats counts each time."""
    duplicates: int = 0
    """Trades sent again, by the fault or after a subscription."""
    malformed: int = 0
    """Frames that are no readable trade."""
    late: int = 0
    """Trades sent long after their exchange time, by the fault."""

    def count(self, event: Event, clients: int) -> None:
        """Counts one frame that goes to so many clients."""
        self.frames += clients
        if event.kind is Kind.MALFORMED:
            self.malformed += clients
            return
        self.trades += clients
        self.distinct += event.kind in FRESH
        if event.kind is Kind.DUPLICATE:
            self.duplicates += clients
        elif event.kind is Kind.LATE:
            self.late += clients
