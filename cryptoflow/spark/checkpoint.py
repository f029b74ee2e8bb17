"""Where a query's checkpoint lies, what it has done, and where a changed query starts.

Layout: HOME/checkpoints/SOURCE/FINGERPRINT, SOURCE standing for one topic and one set of tables, FINGERPRINT for
one definition of the query. A query that changed thus finds no checkpoint and makes its own. Inside are Spark's own
files (`offsets/N` and `commits/N`, a version line and then JSON lines) and ours, `start.json`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S
from cryptoflow.model.window import window_start_ns

Offsets = dict[int, int]
"""The next offset to read, by partition."""

START_FILE = "start.json"
NS_PER_MS = 1_000_000


class Start(msgspec.Struct, frozen=True):
    """Where a query began."""

    window_s: int
    offsets: Offsets
    """The first offset read, by partition."""
    not_before_ns: int = 0
    """Exchange times before it belong to windows that are finished already; 0: there are none."""
    counted: Offsets = {}
    """From these offsets on, trades older than `not_before_ns` are late; before them they are in finished candles."""


class Progress(msgspec.Struct, frozen=True):
    """What a query has committed."""

    batch_id: int
    offsets: Offsets
    watermark_ms: int


def fingerprint(*parts: object) -> str:
    """A short name for what `parts` say."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def source_name(topic: str, topic_id: str, tables_id: str) -> str:
    """The folder of all queries between a topic and the tables; the first part of their ids."""
    return f"{topic}-{fingerprint(topic_id, tables_id)}"


def _numbered(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())


def _json_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def source_offsets(line: Mapping[str, object]) -> Offsets:
    """The offsets in a source's JSON: {topic: {partition: offset}}."""
    (partitions,) = line.values()
    assert isinstance(partitions, dict)
    return {int(partition): int(offset) for partition, offset in partitions.items()}


def planned_offsets(checkpoint: Path, batch_id: int) -> dict[str, object]:
    """The source's own JSON of where batch `batch_id` ends."""
    return _json_lines(checkpoint / "offsets" / str(batch_id))[1]


def progress(checkpoint: Path) -> Progress | None:
    """What the query over Kafka in `checkpoint` has committed; None before its first batch."""
    committed = _numbered(checkpoint / "commits")
    if not committed:
        return None
    metadata, offsets = _json_lines(checkpoint / "offsets" / str(committed[-1]))
    (commit,) = _json_lines(checkpoint / "commits" / str(committed[-1]))
    watermarks_ms = (metadata["batchWatermarkMs"], commit["nextBatchWatermarkMs"])
    return Progress(committed[-1], source_offsets(offsets), max(int(str(ms)) for ms in watermarks_ms))


def batch_range(checkpoint: Path, batch_id: int) -> tuple[Offsets, Offsets]:
    """(from, to) offsets of a batch over Kafka, committed or not."""
    end = source_offsets(planned_offsets(checkpoint, batch_id))
    begin = source_offsets(planned_offsets(checkpoint, batch_id - 1)) if batch_id else read_start(checkpoint).offsets
    return {partition: begin.get(partition, 0) for partition in end}, end


def read_start(checkpoint: Path) -> Start:
    """How the query of `checkpoint` began."""
    return msgspec.json.decode((checkpoint / START_FILE).read_bytes(), type=Start)


def write_start(checkpoint: Path, start: Start) -> Start:
    """Note how the query of `checkpoint` begins; whole or not at all."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    draft = checkpoint / f"{START_FILE}.draft"
    draft.write_bytes(msgspec.json.encode(start))
    draft.rename(checkpoint / START_FILE)
    return start


def predecessor(checkpoint: Path, window_s: int) -> tuple[Start, Progress] | None:
    """The newest other query of the same source and window that has committed anything."""
    found = []
    for other in checkpoint.parent.glob(f"*/{START_FILE}"):
        done = progress(other.parent)
        start = read_start(other.parent)
        if other.parent != checkpoint and done and start.window_s == window_s:
            newest = other.parent / "commits" / str(done.batch_id)
            found.append((newest.stat().st_mtime_ns, start, done))
    return max(found, key=lambda entry: entry[0])[1:] if found else None


def start_after(start: Start, done: Progress, earliest: Start, offsets_from_ms: Callable[[int], Offsets]) -> Start:
    """Where the successor of a query starts: before every trade of a window that query had not finished.

    Args:
        start: how the earlier query began.
        done: what it has committed.
        earliest: where a query without predecessor would start, as `start_at` says.
        offsets_from_ms: for a time in ms, the first offset of each partition received at it or later.
    """
    boundary_ns = max(
        window_start_ns(done.watermark_ms * NS_PER_MS, start.window_s),
        start.not_before_ns,
        earliest.not_before_ns,
    )
    # A trade is received at the earliest MAX_AHEAD_S before its exchange time.
    received = offsets_from_ms(max(0, (boundary_ns - MAX_AHEAD_S * NS_PER_S) // NS_PER_MS))
    offsets = {
        partition: max(first, min(received.get(partition, first), done.offsets.get(partition, first)))
        for partition, first in earliest.offsets.items()
    }
    return Start(start.window_s, offsets, boundary_ns, done.offsets)


def start_at(earliest: Offsets, cut_ms: int | None, window_s: int) -> Start:
    """Where a query without predecessor starts: at the first offset that Kafka has.

    Args:
        earliest: the first offset that Kafka still has, by partition.
        cut_ms: where Kafka has deleted old trades, when the first it still has was received; windows that began
            before that are incomplete in Kafka and left as they stand in the table.
        window_s: length of the windows, in s.
    """
    if cut_ms is None:
        return Start(window_s, earliest)
    window_ns = window_s * NS_PER_S
    return Start(window_s, earliest, window_start_ns(cut_ms * NS_PER_MS, window_s) + window_ns)
