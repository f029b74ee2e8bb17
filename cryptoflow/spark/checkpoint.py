"""The stream's checkpoint: a cache of its state, good for a faster start and for nothing else.

Layout: HOME/checkpoints/TOPIC-ID/NAME, the id being that of topic and tables. The newest progress in Cassandra names
the one checkpoint and the batch that go with it; any other is of no use, and removed. Inside are Spark's own files
(`offsets/N` and `commits/N`, a version line and then JSON lines) and ours, `start.json`.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cryptoflow.model.offsets import Offsets

START_FILE = "start.json"

UNUSABLE = (OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError, msgspec.MsgspecError)
"""What reading a checkpoint raises that was cut short, or is not what it should be."""


class Start(msgspec.Struct, frozen=True):
    """Where a stream begins."""

    begins: Offsets
    """The first offset to read, by partition."""
    finished_ns: int = 0
    """Exchange times before it belong to windows that are finished already, in ns since the epoch."""
    counted: Offsets = {}
    """From these offsets on, trades of finished windows are late; before them they are in their candles, or marked."""
    buckets: int = 1
    """In how many parts the pairs, and so the state, are taken apart: with another number it would not be found."""


def fingerprint(*parts: object) -> str:
    """A short name for what `parts` say."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def folder_of(home: Path, topic: str, topic_id: str, tables: str) -> Path:
    """Where the checkpoints of a topic's stream into some tables, named by their id, lie: no other stream's do."""
    return (home / "checkpoints" / f"{topic}-{fingerprint(topic_id, tables)}").absolute()


def make(folder: Path, start: Start) -> Path:
    """A new checkpoint; all others of the folder are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    made = folder / uuid.uuid4().hex
    made.mkdir(parents=True)
    (made / START_FILE).write_bytes(msgspec.json.encode(start))
    return made


def resumable(checkpoint: Path, batch_id: int, offsets: Offsets) -> Start | None:
    """How the stream of a checkpoint began, if its newest batch is the one that was committed last.

    Spark may not have come to note the commit itself; it then does the batch again.
    """
    try:
        start = msgspec.json.decode((checkpoint / START_FILE).read_bytes(), type=Start)
        planned = source_offsets(_planned(checkpoint, batch_id)) == offsets
        newest = max(_numbered(checkpoint / "offsets")) <= batch_id + 1
        committed = _committed(checkpoint) in (batch_id - 1, batch_id)
    except UNUSABLE:
        return None
    return start if planned and newest and committed else None


def _numbered(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())


def _committed(checkpoint: Path) -> int:
    """The newest batch that Spark has noted as committed; -1: none. What it can't read there would end the query."""
    newest = max(_numbered(checkpoint / "commits"), default=-1)
    if newest >= 0:
        msgspec.json.decode((checkpoint / "commits" / str(newest)).read_text().splitlines()[1], type=dict)
    return newest


def _planned(checkpoint: Path, batch_id: int) -> dict[str, object]:
    """The source's own JSON of where a batch ends."""
    lines = (checkpoint / "offsets" / str(batch_id)).read_text().splitlines()[1:]
    planned: dict[str, object] = json.loads(lines[1])
    return planned


def source_offsets(line: Mapping[str, object]) -> Offsets:
    """The offsets in a source's JSON: {topic: {partition: offset}}."""
    (partitions,) = line.values()
    assert isinstance(partitions, dict)
    return {int(partition): int(offset) for partition, offset in partitions.items()}


def batch_range(checkpoint: Path, batch_id: int, begins: Offsets) -> tuple[Offsets, Offsets]:
    """(from, to) offsets of a batch, committed or not; the first one of the stream begins at `begins`."""
    end = source_offsets(_planned(checkpoint, batch_id))
    begin = source_offsets(_planned(checkpoint, batch_id - 1)) if batch_id else begins
    return {partition: begin.get(partition, 0) for partition in end}, end


def committed_offsets(checkpoint: Path) -> Offsets:
    """The offsets up to which the stream has committed batches."""
    committed = _numbered(checkpoint / "commits")
    return source_offsets(_planned(checkpoint, committed[-1])) if committed else {}
