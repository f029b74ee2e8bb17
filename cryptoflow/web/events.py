"""Server-sent events for many viewers: what each series' newest states are, and who has seen which. Pure.

A viewer that is slower than the events gets the newest state of each candle, so what waits for it is bounded; one that
comes back gets what has changed since, by the id of the last event that it saw.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptoflow.tables.reader import Series

KEPT_EVENTS = 500
"""Of each series; who has missed more is told to load anew."""

MOST_DIGITS = 18
"""Of an event's number: what a viewer says that has more is none of ours."""

RESET = "reset"
"""The event that tells a viewer that it has missed more than is kept: it has to load the candles anew."""

HEARTBEAT = b": here\n\n"

RETRY = b"retry: 1000\n\n"
"""After how many ms a browser that lost its connection comes back; its own default is several seconds."""


class Event(NamedTuple):
    """A state that has changed."""

    number: int
    """Counts the events of a server."""
    message: bytes
    """As it goes over the wire (format: WHATWG HTML, 9.2)."""


def message(kind: str, id: str, data: bytes) -> bytes:
    """An event as it goes over the wire.

    Args:
        data: a JSON text, so it has no line break.
    """
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id.encode(), kind.encode(), data)


@dataclass
class Channel:
    """The events of a series: the newest of each key, in their order."""

    newest: dict[Hashable, Event] = field(default_factory=dict)
    forgotten: int = 0
    """The number of the newest event that is not kept, nor overtaken by another of its key."""
    viewers: set["Viewer"] = field(default_factory=set)
    left_at_s: float | None = None
    """Since when it has no viewer, by the hub's clock."""

    def put(self, key: Hashable, event: Event) -> None:
        """Keep an event in place of its key's last one."""
        self.newest.pop(key, None)
        self.newest[key] = event
        if len(self.newest) > KEPT_EVENTS:
            self.forgotten = self.newest.pop(next(iter(self.newest))).number
        own = id(self), key
        for viewer in self.viewers:
            viewer.offer(own, event)


class Viewer:
    """Who watches some series; what waits for it is at most one event for each key."""

    def __init__(self, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._waiting: dict[Hashable, Event] = {}
        self._woken: asyncio.Future[None] | None = None

    def offer(self, key: Hashable, event: Event) -> None:
        """Let the event follow, in place of one of its key that still waits."""
        self._waiting.pop(key, None)
        self._waiting[key] = event
        self._wake()

    def _wake(self) -> None:
        if self._woken and not self._woken.done():
            self._woken.set_result(None)

    async def messages(self) -> AsyncIterator[bytes]:
        """All that goes to the viewer, for ever; what waits comes in one piece."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                self._woken = loop.create_future()
                quiet = loop.call_later(self._heartbeat_s, self._wake)  # a tenth of the work of asyncio.timeout
                try:
                    await self._woken
                finally:
                    quiet.cancel()
            waiting, self._waiting = self._waiting, {}
            yield b"".join([event.message for event in waiting.values()]) or HEARTBEAT


class Hub:
    """All channels and viewers of a server; for one event loop.

    Args:
        epoch: tells this server's ids from those of others, of which it knows nothing.
        clock: any monotonic one, in s.
        keep_s: how long a channel that nobody watches is kept, for viewers that come back.
    """

    def __init__(self, epoch: str, clock: Callable[[], float], keep_s: float, heartbeat_s: float) -> None:
        self._epoch, self._clock, self._keep_s, self._heartbeat_s = epoch, clock, keep_s, heartbeat_s
        self._number = 0
        self._viewers: set[Viewer] = set()
        self.channels: dict[Series, Channel] = {}

    def publish(self, series: Series, kind: str, key: Hashable, data: bytes) -> None:
        """Tell all who watch the series; nobody, where it has no channel.

        Args:
            key: of what `data` is the newest state.
        """
        if channel := self.channels.get(series):
            self._number += 1
            channel.put((kind, key), Event(self._number, message(kind, self._id(self._number), data)))

    def watch(self, wanted: Iterable[Series], last_id: str | None = None) -> Viewer:
        """A new viewer of some series; it gets all that has changed since `last_id`, or all that is kept.

        Call `leave` when it is gone.
        """
        viewer = Viewer(self._heartbeat_s)
        self._viewers.add(viewer)
        channels = [self.channels.setdefault(series, Channel(forgotten=self._number)) for series in wanted]
        seen = self._seen(last_id)
        if last_id and any(channel.forgotten > seen for channel in channels):
            viewer.offer(RESET, Event(0, message(RESET, self._id(0), b"{}")))
            seen = 0
        missed = sorted(
            (event, (id(channel), key))
            for channel in channels
            for key, event in channel.newest.items()
            if event.number > seen
        )
        for event, key in missed:
            viewer.offer(key, event)
        for channel in channels:
            channel.viewers.add(viewer)
            channel.left_at_s = None
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self._viewers.discard(viewer)
        for channel in self.channels.values():
            if viewer in channel.viewers:
                channel.viewers.remove(viewer)
                channel.left_at_s = channel.left_at_s if channel.viewers else self._clock()

    def watched(self) -> list[Series]:
        """The series that have a viewer, or had one of late; channels of others are closed."""
        now_s = self._clock()
        for series, channel in list(self.channels.items()):
            if channel.left_at_s is not None and now_s - channel.left_at_s > self._keep_s:
                del self.channels[series]
        return list(self.channels)

    @property
    def viewers(self) -> int:
        """How many there are."""
        return len(self._viewers)

    def _id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def _seen(self, last_id: str | None) -> int:
        """The number of the last event that was seen; -1 for the id of another server."""
        epoch, _, number = (last_id or "").rpartition("-")
        known = epoch == self._epoch and number.isdecimal() and len(number) <= MOST_DIGITS
        return int(number) if known else -1
