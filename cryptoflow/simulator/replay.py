"""Recorded frames, read from a file and paced by the time they came, or else by the trades' exchange time.

A replay begins with the first subscription and waits while nobody is subscribed, so a client that reconnects
goes on where the stream stood. What was on its way to a client that closed the socket itself is lost, as on
the real feed, but for the last 20 trades of each pair.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from cryptoflow.errors import ConfigError, UnreadableFrameError
from cryptoflow.model.recording import record_of
from cryptoflow.model.trade import NS_PER_S, read_trade
from cryptoflow.simulator.events import Event, Kind, subscription_of


def due_s(event_ns: int, first_ns: int, speed: float) -> float:
    """When a trade of a replay is due, in s since its begin.

    Args:
        event_ns: its exchange time, in ns.
        first_ns: the exchange time of the first trade, in ns.
        speed: 1 as recorded, 10 ten times as fast, 0 at once.
    """
    return max(0, event_ns - first_ns) / NS_PER_S / speed if speed else 0.0


def open_frames(path: Path) -> BinaryIO:
    """The file of frames, opened; a .gz is unpacked while it is read.

    Raises:
        ConfigError: it can't be opened, or is a .gz by its name only.
    """
    try:
        file = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 - the caller closes it
        try:
            cast(gzip.GzipFile, file).peek(1)
        except BaseException:
            file.close()
            raise
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"The replay file {path} can't be read ({_reason(error)}); give another one.") from None
    return cast(BinaryIO, file)


def read_frames(path: Path) -> Iterator[bytes]:
    """The lines of the file as they stand, without the line feed; one at a time in memory.

    Raises:
        ConfigError: the file can't be read, or not to its end.
    """
    with open_frames(path) as file:
        try:
            for line in file:
                yield line.removesuffix(b"\n")
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError(f"The replay file {path} is damaged ({_reason(error)}); give another one.") from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def trade_event(frame: bytes) -> Event:
    """A frame of CryptoCompare's as an event; what is no trade goes to everybody."""
    try:
        trade = read_trade(frame)
    except UnreadableFrameError:
        return Event(frame, None, 0, Kind.MALFORMED)
    return Event(frame, subscription_of(trade.pair), trade.event_time_ns)


def events(
    lines: Iterable[bytes], read: Callable[[bytes], Event | None] = trade_event, venue: str | None = None
) -> Iterator[Event]:
    """The frames of the lines as events, each at its receive time if it has one, else at its exchange time.

    What has neither keeps its place. The stream's time never goes back.

    Args:
        read: makes a frame an event; None if it is none to replay.
        venue: whose frames to take, and those of nobody; None: all.

    Raises:
        ConfigError: there are frames, all of them of other venues.
    """
    newest_ns, found, strangers = 0, False, set()
    for line in lines:
        record = record_of(line)
        if record is not None and venue is not None and record.venue not in ("", venue):
            strangers.add(record.venue)
            continue
        found = True
        event = read(line if record is None else record.frame.encode())
        if event is not None:
            newest_ns = max(newest_ns, event.stream_ns if record is None else record.received_ns)
            yield event._replace(stream_ns=newest_ns)
    if strangers and not found:
        raise ConfigError(
            f"The replay holds no frame of {venue}; it is of {', '.join(sorted(strangers))}: name that one."
        )


class Replay:
    """A source of events that reads them from a file.

    Args:
        speed: 1 as recorded, 10 ten times as fast, 0 at once.
        read: makes a frame an event; None if it is none to replay.
        venue: whose frames to take out of a recording of several; None: all.
        taken: called with each event as its turn comes.

    Raises:
        ConfigError: the file can't be read, or has frames of other venues only; while it is made, or later, when the
            damaged place is reached.
    """

    dated_back = False

    def __init__(
        self,
        path: Path,
        speed: float,
        read: Callable[[bytes], Event | None] = trade_event,
        *,
        venue: str | None = None,
        taken: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._speed, self._taken = speed, taken
        self._events = events(read_frames(path), read, venue)
        self._first_ns = 0
        self._load()

    def _load(self) -> None:
        self._next = next(self._events, None)
        if self._next is not None and not self._first_ns:
            self._first_ns = self._next.stream_ns

    def next_due_s(self) -> float | None:
        """When the next frame is due, in s since the stream began; None after the last."""
        return None if self._next is None else due_s(self._next.stream_ns, self._first_ns, self._speed)

    def pull(self, subscriptions: Sequence[str]) -> Event:
        """The next frame, whatever is subscribed."""
        event = self._next
        assert event is not None
        self._taken(event)
        self._load()
        return event
