"""Frames written to a file as they come, for a simulator to replay; none is kept in memory."""

import gzip
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from cryptoflow.errors import ConfigError, PrerequisiteError
from cryptoflow.feeds.endpoint import Endpoint
from cryptoflow.model.recording import Record, record_line
from cryptoflow.model.trade import Trade
from cryptoflow.venues.events import Received
from cryptoflow.venues.reading import hide
from cryptoflow.venues.session import Session


class Recorder:
    """A new file of JSON lines (`model.recording`), gzipped if its name ends with .gz; without a frame there is none.

    Raises:
        ConfigError: it can't be made, or is there already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames: Counter[str] = Counter()
        """Written, by the venue's name."""
        self.left_out = 0
        """Frames that were no text, which no simulator can send."""
        self._sockets = 0
        try:
            file = gzip.open(path, "xb") if path.suffix == ".gz" else path.open("xb")  # noqa: SIM115 - `__exit__` closes it
        except OSError as error:
            raise ConfigError(f"The recording {path} can't be made ({error.strerror}); give another file.") from None
        self._file = cast(BinaryIO, file)

    def overhear(self, endpoint: Endpoint, session: Session) -> Session:
        """The session of a socket that was opened just now, whose frames are written from now on."""
        self._sockets += 1
        return _Overheard(session, self, endpoint, self._sockets)

    def write(self, endpoint: Endpoint, socket: int, frame: bytes) -> None:
        """Write one frame that came just now, without the endpoint's secret should it hold that.

        Raises:
            PrerequisiteError: the disk does not take it.
        """
        venue, received_ns = endpoint.venue.name, time.time_ns()
        try:
            text = hide(frame.decode(), endpoint.secret)
        except UnicodeDecodeError:
            self.left_out += 1
            return
        try:
            self._file.write(record_line(Record(received_ns=received_ns, venue=venue, socket=socket, frame=text)))
        except OSError as error:
            raise self._fault(error) from None
        self.frames[venue] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as fault:
            if error is None:
                raise self._fault(fault) from None
        if not self.frames:
            self.path.unlink()

    def _fault(self, error: OSError) -> PrerequisiteError:
        return PrerequisiteError(
            f"The recording {self.path} can't be written on ({error.strerror}): what came before is in it; make room "
            "and give another file."
        )


class _Overheard(Session):
    """A session whose frames are written before it takes them."""

    def __init__(self, session: Session, recorder: Recorder, endpoint: Endpoint, socket: int) -> None:
        super().__init__(session.subscriptions)
        self._session, self._recorder, self._endpoint, self._socket = session, recorder, endpoint, socket

    def receive(self, frame: bytes, now_s: float, *, binary: bool = False) -> Received:
        """As for all."""
        self._recorder.write(self._endpoint, self._socket, frame)
        return self._session.receive(frame, now_s, binary=binary)

    def leave(self) -> None:
        """As for all."""
        self._session.leave()

    def frames_to_send(self) -> list[str]:
        """As for all."""
        return self._session.frames_to_send()


class NoSink:
    """Lets all trades go: they are in the recording."""

    def trade(self, trade: Trade, frame: bytes) -> None:
        """Do nothing."""

    def dead_letter(self, frame: bytes, reason: str, *, venue: str = "") -> None:
        """Do nothing."""
