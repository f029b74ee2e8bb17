"""The records of a partition in columns, thousands at once: what reads millions of them.

kafka-python makes an object of each record, in some 4 us; here numpy finds all records of an answer, in half a us each.
Format: Kafka's record batch of version 2, as in `kafka.record.default_records`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, OffsetOutOfRangeError

from cryptoflow.errors import KafkaError, KafkaUnreachableError
from cryptoflow.kafka_io.records import open_consumer, polled
from cryptoflow.runtime.retry import retried
from cryptoflow.settings import KafkaSettings

FETCH_BYTES = 1 << 21
"""What is asked for at once: some 10,000 trades, which the processor's caches can hold."""

PAUSE_MS = 5
"""How long a new consumer pauses while it finds its place; a tenth of a second by default, twice for each part."""

FORMAT = 2
"""The version of a record batch that is taken apart here; kafka-python's own way serves those before it."""


class Records(NamedTuple):
    """Records of a partition, in their order: arrays of offsets and of times in ms since the epoch, and the values."""

    offsets: Any
    times_ms: Any
    values: list[bytes | None]

    def between(self, begin: int, end: int) -> "Records":
        """Those from the offset `begin` on and before `end`."""
        first, last = np.searchsorted(self.offsets, (begin, end))
        return Records(self.offsets[first:last], self.times_ms[first:last], self.values[first:last])


NONE = Records(np.zeros(0, np.int64), np.zeros(0, np.int64), [])


def frames_between(
    settings: KafkaSettings, topic: str, begin: Mapping[int, int], end: Mapping[int, int]
) -> Iterator[tuple[int, bytes | None]]:
    """(when Kafka received it, in ms since the epoch; the value) of each record between offsets, by partition.

    A record that Kafka has deleted is left out. Raises as `columns_between`.
    """
    for partition, stop in end.items():
        start = begin.get(partition, 0)
        for _, times_ms, values in columns_between(settings, topic, partition, start, stop, all_there=False):
            yield from zip(times_ms.tolist(), values, strict=True)


def columns_between(
    settings: KafkaSettings, topic: str, partition: int, begin: int, end: int, all_there: bool = True
) -> Iterator[Records]:
    """The records of a partition between two offsets; those that a compaction has removed are left out.

    Args:
        all_there: whether it is an error that Kafka has deleted the first of them.

    Raises:
        KafkaUnreachableError: no broker answers for the time that a delivery may take.
        KafkaError: Kafka has deleted the first of them, or they did not come in that time.
    """
    options = {
        "auto_offset_reset": "none" if all_there else "earliest",
        "max_partition_fetch_bytes": FETCH_BYTES,
        "retry_backoff_ms": PAUSE_MS,
    }
    timeout_s = settings.delivery_timeout_s
    with ExitStack() as stack:
        opened = partial(open_consumer, settings, topic, **options)
        consumer = retried(lambda: stack.enter_context(opened()), (KafkaUnreachableError,), timeout_s)
        # There is no public way to the bytes of an answer. The class is looked up at the fetcher for each of them.
        consumer._fetcher.PartitionRecords = _Answer
        try:
            for some in polled(consumer, TopicPartition(topic, partition), begin, end, timeout_s):
                for records in some:
                    yield records.between(begin, end)
        except OffsetOutOfRangeError:
            raise KafkaError(
                f"Kafka has deleted trades of {topic} that were still to be read: raise its retention. "
                "The next run goes on without them."
            ) from None


class _Answer(Fetcher.PartitionRecords):  # type: ignore[misc]  # kafka-python has no types
    """The records of one answer, given as one `Records` in the place of many objects."""

    def _maybe_skip_record(self, record: Records) -> bool:
        return False

    def _unpack_records(self, place: TopicPartition, records: Any, *deserializers: Any) -> Iterator[Records]:
        batches = list(records)
        for batch in batches:
            if not batch.validate_crc():
                raise CorruptRecordError(f"The checksum of a batch of {place} at {batch.base_offset} is wrong.")
        if batches:
            read = records_of(batches)
            self.next_fetch_offset = _after(batches[-1], read)
            yield read.between(self.fetch_offset, self.next_fetch_offset)  # a batch may begin before what was asked for
        self.drain()


def _after(batch: Any, read: Records) -> int:
    """The offset after a batch, of which a compaction may have removed the last record."""
    return int(batch.next_offset if batch.magic == FORMAT else read.offsets[-1] + 1)


def records_of(batches: Sequence[Any]) -> Records:
    """The records of kafka-python's batches, in columns; those that end a transaction are none.

    Raises:
        CorruptRecordError: they are not of the format.
    """
    if any(batch.magic != FORMAT for batch in batches):
        records = [record for batch in batches for record in batch]
        offsets, times_ms = (
            np.array([getattr(record, name) for record in records], np.int64) for name in ("offset", "timestamp")
        )
        return Records(offsets, times_ms, [record.value for record in records])
    batches = [batch for batch in batches if not batch.is_control_batch]
    if not batches:
        return NONE
    for batch in batches:
        batch._maybe_uncompress()  # nothing but the iteration over its records does so in public
    begins = np.cumsum([0, *(len(batch._buffer) for batch in batches)])
    text = b"".join(batch._buffer for batch in batches)
    edges = zip(batches, pairwise(begins.tolist()), strict=True)
    at = np.concatenate([_starts(text, begin + batch._pos, batch.records_count, end) for batch, (begin, end) in edges])
    data = np.frombuffer(text, np.uint8)
    counts = [batch.records_count for batch in batches]
    _, at = _varints(data, at)  # the length
    later_ms, at = _varints(data, at + 1)  # past the attributes
    number, at = _varints(data, at)
    key_length, at = _varints(data, at)
    length, at = _varints(data, at + np.maximum(key_length, 0))
    ends = (at + np.maximum(length, 0)).tolist()
    values: list[bytes | None] = [text[begin:end] for begin, end in zip(at.tolist(), ends, strict=True)]
    for row in np.flatnonzero(length < 0).tolist():
        values[row] = None
    times_ms = np.repeat([batch.first_timestamp for batch in batches], counts) + later_ms
    appended_ms = np.repeat([batch.max_timestamp if batch.timestamp_type else -1 for batch in batches], counts)
    times_ms = np.where(appended_ms < 0, times_ms, appended_ms)
    return Records(np.repeat([batch.base_offset for batch in batches], counts) + number, times_ms, values)


def _starts(text: bytes, at: int, count: int, end: int) -> Any:
    """Where the records of a batch begin, each with its length."""
    starts = []
    for _ in range(count):
        starts.append(at)
        if (low := text[at]) < 0x80:
            at += 1 + (low >> 1)
        elif (high := text[at + 1]) < 0x80:
            at += 2 + (((low & 0x7F) | (high << 7)) >> 1)
        else:
            lengths, after = _varints(np.frombuffer(text, np.uint8), np.array([at]))
            at = int(after[0] + lengths[0])
    if at != end:
        raise CorruptRecordError(f"The records of a batch end {end - at} bytes before it does.")
    return np.array(starts, np.int64)


def _varints(data: Any, at: Any) -> tuple[Any, Any]:
    """(the zigzag numbers of variable length at these places, the places after them)."""
    byte, at = data[at], at + 1
    number, shift = (byte & 0x7F).astype(np.int64), 7
    more = np.flatnonzero(byte >= 0x80)
    while len(more):
        byte = data[at[more]]
        number[more] |= (byte & 0x7F).astype(np.int64) << shift
        at[more] += 1
        more, shift = more[byte >= 0x80], shift + 7
    return (number >> 1) ^ -(number & 1), at
