"""The laws of checkpoints: what is read from Spark's files, and where a changed query starts."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S
from cryptoflow.spark.checkpoint import (
    NS_PER_MS,
    Offsets,
    Progress,
    Start,
    batch_range,
    fingerprint,
    predecessor,
    progress,
    read_start,
    start_after,
    start_at,
    write_start,
)
from cryptoflow_tests.spark.streaming import NOON_S, PATIENCE_S, Streaming, a_trade, after

NOON_MS = NOON_S * 1000
PARTITIONS = range(3)

windows_s = st.sampled_from([1, 60, 300, 3600])
partition_offsets = st.fixed_dictionaries({partition: st.integers(0, 1000) for partition in PARTITIONS})
times_ms = st.integers(NOON_MS, NOON_MS + 10_000_000)


def plan(checkpoint: Path, batch_id: int, offsets: Offsets, watermark_ms: int = 0) -> None:
    """What Spark writes before a batch."""
    folder = checkpoint / "offsets"
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"batchWatermarkMs": watermark_ms, "batchTimestampMs": NOON_MS, "conf": {}}
    source = {"a-topic": {str(partition): offset for partition, offset in offsets.items()}}
    (folder / str(batch_id)).write_text(f"v1\n{json.dumps(metadata)}\n{json.dumps(source)}")
    (folder / f".{batch_id}.crc").write_bytes(b"crc")


def commit(checkpoint: Path, batch_id: int, next_watermark_ms: int = 0) -> None:
    """What Spark writes after a batch."""
    folder = checkpoint / "commits"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / str(batch_id)).write_text(f'v1\n{{"nextBatchWatermarkMs":{next_watermark_ms}}}')
    (folder / f".{batch_id}.crc").write_bytes(b"crc")


def started(folder: Path, window_s: int = 60) -> Path:
    write_start(folder, Start(window_s, {0: 0}))
    plan(folder, 0, {0: 5})
    commit(folder, 0)
    return folder


def test_before_its_first_commit_a_query_has_done_nothing(tmp_path: Path) -> None:
    assert progress(tmp_path) is None
    plan(tmp_path, 0, {0: 5})
    assert progress(tmp_path) is None


def test_progress_is_the_newest_committed_batch_by_number(tmp_path: Path) -> None:
    for batch_id in range(12):
        plan(tmp_path, batch_id, {0: batch_id * 10, 1: batch_id}, watermark_ms=batch_id)
        commit(tmp_path, batch_id, next_watermark_ms=batch_id + 1)
    plan(tmp_path, 12, {0: 999, 1: 999}, watermark_ms=999)
    assert progress(tmp_path) == Progress(11, {0: 110, 1: 11}, 12)


def test_progress_and_ranges_are_read_from_what_spark_itself_writes(
    streaming: Callable[[], Streaming],
) -> None:
    run = streaming()
    write_start(run.checkpoint, Start(60, {0: 0}))
    run.stream.start()
    run.send([a_trade(1), a_trade(2)])
    run.await_written()
    run.send([a_trade(3, time_s=NOON_S + 1000)])
    run.await_written()
    run.stream.drain({0: 3}, after(PATIENCE_S))
    run.stream.stop()
    done = progress(run.checkpoint)
    assert done is not None
    assert done.offsets == {0: 3}
    assert done.watermark_ms == (NOON_S + 1000 - 300) * 1000
    with_rows = [batch for batch in run.batches if batch.counts.rows]
    ranges = [batch_range(run.checkpoint, batch.batch_id) for batch in with_rows]
    assert ranges[0][0] == {0: 0}
    assert ranges[-1][1] == {0: 3}
    assert [end[0] - begin[0] for begin, end in ranges] == [batch.counts.rows for batch in with_rows]


def test_the_first_batch_begins_at_the_start_and_each_other_where_the_one_before_ended(tmp_path: Path) -> None:
    write_start(tmp_path, Start(60, {0: 3, 1: 4}))
    plan(tmp_path, 0, {0: 10, 1: 4})
    plan(tmp_path, 1, {0: 12, 1: 9, 2: 6})
    assert batch_range(tmp_path, 0) == ({0: 3, 1: 4}, {0: 10, 1: 4})
    assert batch_range(tmp_path, 1) == ({0: 10, 1: 4, 2: 0}, {0: 12, 1: 9, 2: 6})


@given(windows_s, partition_offsets, st.integers(0, 2**60), partition_offsets)
def test_a_start_is_read_as_it_was_written(
    window_s: int, offsets: Offsets, not_before_ns: int, counted: Offsets
) -> None:
    start = Start(window_s, offsets, not_before_ns, counted)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "a" / "b"
        assert write_start(checkpoint, start) == start
        assert read_start(checkpoint) == start
        assert [path.name for path in checkpoint.iterdir()] == ["start.json"]


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.data())
def test_a_fingerprint_changes_with_each_part_and_with_nothing_else(parts: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(parts) - 1))
    other = data.draw(st.text(max_size=5).filter(lambda text: text != parts[place]))
    assert fingerprint(*parts) == fingerprint(*parts)
    assert fingerprint(*parts) != fingerprint(*parts[:place], other, *parts[place + 1 :])
    assert fingerprint(*parts) != fingerprint(*parts, "")
    assert fingerprint(1) != fingerprint("1")


def test_a_predecessor_is_the_newest_that_has_committed_and_has_the_same_window(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert predecessor(mine, 60) is None
    write_start(tmp_path / "idle", Start(60, {0: 0}))
    assert predecessor(mine, 60) is None
    for age_s, (name, window_s) in enumerate([("hourly", 3600), ("new", 60), ("old", 60)]):
        folder = started(tmp_path / name, window_s)
        plan(folder, 0, {0: age_s})
        os.utime(folder / "commits" / "0", (NOON_S - age_s, NOON_S - age_s))
    found = predecessor(mine, 60)
    assert found is not None
    assert found[1].offsets == {0: 1}
    started(mine)
    assert predecessor(mine, 60) == found
    hourly = predecessor(mine, 3600)
    assert hourly is not None
    assert hourly[1].offsets == {0: 0}
    assert predecessor(mine, 61) is None


Received = dict[int, list[int]]
"""Receive times in ms of each partition's records, in order; a record's offset is its place."""

received = st.fixed_dictionaries({partition: st.lists(times_ms, max_size=20).map(sorted) for partition in PARTITIONS})


def first_from(topic: Received) -> Callable[[int], Offsets]:
    """As Kafka answers: the first offset received at a time or later, the end where there is none."""
    return lambda ms: {
        partition: next((offset for offset, at_ms in enumerate(times) if at_ms >= ms), len(times))
        for partition, times in topic.items()
    }


@given(windows_s, received, st.integers(NOON_MS, NOON_MS + 10_000_000), partition_offsets, partition_offsets, st.data())
def test_a_successor_reads_every_trade_of_the_windows_that_were_open(
    window_s: int, topic: Received, watermark_ms: int, done_offsets: Offsets, kept: Offsets, data: st.DataObject
) -> None:
    earliest = Start(window_s, {partition: min(kept[partition], len(topic[partition])) for partition in PARTITIONS})
    done = Progress(7, done_offsets, watermark_ms)
    start = start_after(Start(window_s, {}), done, earliest, first_from(topic))

    boundary_ns = start.not_before_ns
    assert boundary_ns % (window_s * NS_PER_S) == 0
    assert boundary_ns <= watermark_ms * NS_PER_MS < boundary_ns + window_s * NS_PER_S
    assert start.counted == done_offsets
    for partition, times in topic.items():
        assert start.offsets[partition] >= earliest.offsets[partition]
        skipped = times[earliest.offsets[partition] : start.offsets[partition]]
        # Of what is skipped, nothing can be in an open window, nor is anything new to the earlier query.
        assert all((at_ms + MAX_AHEAD_S * 1000) * NS_PER_MS < boundary_ns for at_ms in skipped)
        assert start.offsets[partition] <= max(earliest.offsets[partition], done_offsets[partition])


@given(windows_s, st.integers(0, 100), times_ms, times_ms, st.integers(0, 100))
def test_a_successor_leaves_windows_alone_that_any_query_before_had_to_leave(
    window_s: int, first_windows: int, watermark_ms: int, cut_ms: int, offset: int
) -> None:
    first_ns = NOON_S * NS_PER_S // (window_s * NS_PER_S) * (window_s * NS_PER_S) + first_windows * window_s * NS_PER_S
    before = Start(window_s, {0: 0}, first_ns)
    earliest = start_at({0: offset}, cut_ms, window_s)
    start = start_after(before, Progress(1, {0: 50}, watermark_ms), earliest, lambda ms: {0: 0})
    assert start.not_before_ns >= max(first_ns, earliest.not_before_ns)
    assert start.not_before_ns % (window_s * NS_PER_S) == 0
    assert start.offsets == {0: offset}


def test_a_partition_that_is_new_to_the_topic_is_read_from_its_beginning() -> None:
    earliest = Start(60, {0: 10, 1: 0})
    start = start_after(Start(60, {0: 0}), Progress(3, {0: 90}, NOON_MS), earliest, lambda ms: {0: 80, 1: 70})
    assert start.offsets == {0: 80, 1: 0}


def test_a_first_query_reads_all_that_kafka_has() -> None:
    assert start_at({0: 0, 1: 0}, None, 60) == Start(60, {0: 0, 1: 0})


@given(windows_s, times_ms)
def test_a_first_query_leaves_alone_the_window_that_retention_cut(window_s: int, cut_ms: int) -> None:
    start = start_at({0: 17}, cut_ms, window_s)
    length_ns = window_s * NS_PER_S
    assert start.offsets == {0: 17}
    assert start.not_before_ns % length_ns == 0
    assert start.not_before_ns - length_ns <= cut_ms * NS_PER_MS < start.not_before_ns
