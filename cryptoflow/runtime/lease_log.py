"""Who holds a lease, told by a log that all contenders append to and read: a pure fold over it, in its order.

Times are those at which the log took the records, never a contender's own: clocks that are wrong, and processes that
stood still, change nothing in what all readers agree on.

A lease is claimed by a record. The claim wins if nobody holds the lease, if the holder has been silent for longer than
the time to live, or if it supersedes exactly this holder, whose process the claimer knows to be dead. The fencing
number of who wins, the claim's offset, is higher than that of all before. The holder goes on with beats; those of
anybody else change nothing.

Old records are deleted, so a reader may start in the middle. It then can't judge a claim until it is past doubt: it
has read a time to live's worth without one that it could not judge. A beat tells even so who holds the lease, as it
carries the whole holder and the fencing number, of which the highest is right.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from cryptoflow.model.trade import DECODE_ERRORS
from cryptoflow.runtime.holder import Holder


class Claim(msgspec.Struct, frozen=True, tag_field="kind", tag="claim"):
    """Somebody wants the lease."""

    token: str
    """What tells this contender from all others, also of the same process."""
    holder: Holder
    supersedes: str | None = None
    """The token of the holder whose process is dead."""


class Beat(msgspec.Struct, frozen=True, tag_field="kind", tag="beat"):
    """The holder lives."""

    token: str
    holder: Holder
    fence: int


class Release(msgspec.Struct, frozen=True, tag_field="kind", tag="release"):
    """The holder wants it no longer."""

    token: str
    fence: int


Record = Claim | Beat | Release

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()


def write_record(record: Record) -> bytes:
    """The JSON that stands in the log."""
    return _encoder.encode(record)


def read_record(value: bytes | None) -> Record | None:
    """The record; None for what is none, or one of a later version: it is passed over."""
    try:
        return _decoder.decode(value or b"")
    except DECODE_ERRORS:
        return None


@dataclass(frozen=True)
class Entry:
    """A record in its place."""

    offset: int
    time_ms: int
    """When the log took it."""
    record: Record


@dataclass(frozen=True)
class LeaseState:
    """What a reader knows of a lease after some entry of its log."""

    holder: Holder | None = None
    token: str = ""
    """The holder's; empty if there is none."""
    fence: int = -1
    """The holder's fencing number, or the last one's."""
    heard: int = -1
    """Offset of the holder's last sign of life."""
    silent_ms: int = 0
    """How long ago that was at the last entry, by the log's own time: a clock set back does not count."""
    last_ms: int | None = None
    doubt_ms: int | None = None
    """How long ago the reader started in the middle, or could not judge a claim; None: it is past doubt."""

    def after(self, entry: Entry, ttl_ms: int) -> "LeaseState":
        """What is known after one more entry."""
        state = self._later(entry.time_ms, ttl_ms)
        match entry.record:
            case Claim():
                return state._claimed(entry.offset, entry.record, ttl_ms)
            case Beat():
                return state._beaten(entry.offset, entry.record)
            case Release():
                return state._released(entry.record)

    def _later(self, time_ms: int, ttl_ms: int) -> "LeaseState":
        passed_ms = 0 if self.last_ms is None else max(0, time_ms - self.last_ms)
        doubt_ms = None if self.doubt_ms is None else self.doubt_ms + passed_ms
        if doubt_ms is not None and doubt_ms > ttl_ms:
            doubt_ms = None
        return replace(self, silent_ms=self.silent_ms + passed_ms, last_ms=time_ms, doubt_ms=doubt_ms)

    def _claimed(self, offset: int, claim: Claim, ttl_ms: int) -> "LeaseState":
        if self.doubt_ms is not None:
            return replace(self, doubt_ms=0)
        if self.holder is None or self.silent_ms > ttl_ms or claim.supersedes == self.token:
            fence = max(offset, self.fence + 1)  # the offset, but where the log was made anew under a holder
            return self._held(offset, claim.holder, claim.token, fence)
        return self

    def _beaten(self, offset: int, beat: Beat) -> "LeaseState":
        if beat.token == self.token or beat.fence > self.fence:
            return self._held(offset, beat.holder, beat.token, beat.fence)
        return self

    def _released(self, release: Release) -> "LeaseState":
        if release.token == self.token or release.fence > self.fence:
            return replace(self, holder=None, token="", fence=release.fence)
        return self

    def _held(self, offset: int, holder: Holder, token: str, fence: int) -> "LeaseState":
        return replace(self, holder=holder, token=token, fence=fence, heard=offset, silent_ms=0)


WHOLE = LeaseState()
"""Before the first entry of a log that lacks none."""

CUT = LeaseState(doubt_ms=0)
"""Before the first entry that is left of a log."""


def fold(entries: Iterable[Entry], ttl_ms: int, start: LeaseState = WHOLE) -> LeaseState:
    """What is known after the entries."""
    for entry in entries:
        start = start.after(entry, ttl_ms)
    return start
