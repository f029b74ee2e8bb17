"""The laws of checkpoints: a cache that is used only where it is what was committed last, whatever became of it."""

import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.offsets import Offsets
from cryptoflow.spark.checkpoint import (
    Start,
    batch_range,
    committed_offsets,
    fingerprint,
    folder_of,
    make,
    resumable,
)
from cryptoflow_tests.spark.streaming import NOON_S, PATIENCE_S, Streaming, a_trade, after

START = Start({0: 3, 1: 4}, 60, {0: 7, 1: 4})

partition_offsets = st.fixed_dictionaries({partition: st.integers(0, 1000) for partition in range(3)})


def plan(checkpoint: Path, batch_id: int, offsets: Offsets) -> None:
    """What Spark writes before a batch."""
    folder = checkpoint / "offsets"
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"batchWatermarkMs": 0, "batchTimestampMs": 0, "conf": {}}
    source = {"a-topic": {str(partition): offset for partition, offset in offsets.items()}}
    (folder / str(batch_id)).write_text(f"v1\n{json.dumps(metadata)}\n{json.dumps(source)}")
    (folder / f".{batch_id}.crc").write_bytes(b"crc")


def commit(checkpoint: Path, batch_id: int) -> None:
    """What Spark writes after a batch."""
    folder = checkpoint / "commits"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / str(batch_id)).write_text('v1\n{"nextBatchWatermarkMs":0}')
    (folder / f".{batch_id}.crc").write_bytes(b"crc")


def ends(batch_id: int) -> Offsets:
    return {0: 10 * batch_id, 1: 4}


@pytest.fixture
def of_two(tmp_path: Path) -> Path:
    """A checkpoint with the batches 1 and 2; the former has gone away."""
    made = make(tmp_path, START)
    for batch_id in (1, 2):
        plan(made, batch_id, ends(batch_id))
        commit(made, batch_id)
    return made


def test_a_checkpoint_is_resumed_at_the_batch_that_was_committed_last(of_two: Path) -> None:
    assert resumable(of_two, 2, ends(2)) == START


def test_also_where_spark_did_not_come_to_note_the_commit(of_two: Path) -> None:
    plan(of_two, 3, ends(3))
    assert resumable(of_two, 3, ends(3)) == START


def test_and_where_it_has_planned_the_next_batch_already(of_two: Path) -> None:
    plan(of_two, 3, ends(3))
    assert resumable(of_two, 2, ends(2)) == START


def test_a_copy_that_is_older_or_another_is_of_no_use(of_two: Path) -> None:
    assert resumable(of_two, 4, ends(4)) is None  # the progress has gone on
    assert resumable(of_two, 3, ends(3)) is None
    assert resumable(of_two, 1, ends(1)) is None  # or this one has, without any progress
    assert resumable(of_two, 2, {0: 21, 1: 4}) is None
    assert resumable(of_two, 2, {0: 20}) is None
    assert resumable(of_two.with_name("other"), 2, ends(2)) is None
    for name in ("1", "2"):
        (of_two / "commits" / name).unlink()
    assert resumable(of_two, 2, ends(2)) is None


def damages() -> Iterator[tuple[str, bytes]]:
    """Files, and what a power cut, a full disk or a hand may have left of them."""
    for name in ("start.json", "offsets/2"):
        yield from ((name, left) for left in (b"", b"v1", b"v1\n{", b"v1\n\n", b"\0" * 40, b"\xff\xfe", b"null", b"{}"))
    yield from (("start.json", left) for left in (b'{"begins":{"x":1}}', b'{"begins":null}', b"[]"))
    for line in ("{}", "[]", "7", '{"t":7}', '{"t":{"0":null}}', '{"t":{"x":1}}', '{"t":{},"u":{}}', '"x"'):
        yield "offsets/2", f"v1\n{{}}\n{line}".encode()


@pytest.mark.parametrize(("name", "left"), list(damages()))
def test_one_that_was_damaged_is_of_no_use_and_no_error(of_two: Path, name: str, left: bytes) -> None:
    (of_two / name).write_bytes(left)
    assert resumable(of_two, 2, ends(2)) is None


@pytest.mark.parametrize("left", [b"", b"v1", b"v1\n", b"v1\n{", b"\0" * 10])
def test_a_commit_that_spark_can_not_read_makes_it_of_no_use(of_two: Path, left: bytes) -> None:
    (of_two / "commits" / "2").write_bytes(left)
    assert resumable(of_two, 2, ends(2)) is None


@pytest.mark.parametrize("name", ["start.json", "offsets", "offsets/2", "commits", "."])
def test_one_of_which_something_is_missing_is_of_no_use(of_two: Path, name: str) -> None:
    path = of_two / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert resumable(of_two, 2, ends(2)) is None


def test_one_that_can_not_be_read_is_of_no_use(of_two: Path) -> None:
    (of_two / "start.json").unlink()
    (of_two / "start.json").mkdir()
    assert resumable(of_two, 2, ends(2)) is None


def test_a_new_one_takes_the_place_of_all_others_of_its_topic(tmp_path: Path, of_two: Path) -> None:
    (tmp_path / "rest of an earlier version").mkdir()
    made = make(tmp_path, START)
    assert list(tmp_path.iterdir()) == [made]
    assert made != of_two
    assert [path.name for path in made.iterdir()] == ["start.json"]


def test_each_topic_has_a_folder_of_its_own_for_each_keyspaces_tables_and_one_made_anew_another(tmp_path: Path) -> None:
    names = itertools.product("ab", ["1", "2"], ["x", "y"])
    folders = {folder_of(tmp_path, *each) for each in names}
    assert len(folders) == 8
    assert {folder.parent for folder in folders} == {tmp_path / "checkpoints"}
    assert folder_of(tmp_path, "a", "1", "x") in folders


@given(partition_offsets, st.integers(0, 2**60), partition_offsets)
def test_a_start_is_read_as_it_was_written(begins: Offsets, finished_ns: int, counted: Offsets) -> None:
    start = Start(begins, finished_ns, counted)
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder) / "a" / "b", start)
        plan(made, 0, begins)
        assert resumable(made, 0, begins) == start


def test_the_first_batch_begins_at_the_start_and_each_other_where_the_one_before_ended(tmp_path: Path) -> None:
    plan(tmp_path, 0, {0: 10, 1: 4})
    plan(tmp_path, 1, {0: 12, 1: 9, 2: 6})
    assert batch_range(tmp_path, 0, {0: 3, 1: 4}) == ({0: 3, 1: 4}, {0: 10, 1: 4})
    assert batch_range(tmp_path, 1, {0: 3, 1: 4}) == ({0: 10, 1: 4, 2: 0}, {0: 12, 1: 9, 2: 6})


def test_a_query_has_committed_up_to_its_newest_batch_by_number(tmp_path: Path) -> None:
    assert committed_offsets(tmp_path) == {}
    plan(tmp_path, 0, {0: 5})
    assert committed_offsets(tmp_path) == {}
    for batch_id in range(12):
        plan(tmp_path, batch_id, {0: batch_id * 10, 1: batch_id})
        commit(tmp_path, batch_id)
    plan(tmp_path, 12, {0: 999, 1: 999})
    assert committed_offsets(tmp_path) == {0: 110, 1: 11}


def test_what_spark_itself_writes_can_be_read_and_resumed(streaming: Callable[[], Streaming]) -> None:
    run = streaming()
    run.checkpoint = run.stream._checkpoint = make(run.checkpoint, START)
    run.stream.start()
    run.send([a_trade(1), a_trade(2)])
    run.await_written()
    run.send([a_trade(3, time_s=NOON_S + 1000)])
    run.await_written()
    run.stream.drain({0: 3}, after(PATIENCE_S))
    run.stream.stop()
    assert committed_offsets(run.checkpoint) == {0: 3}
    with_rows = [batch for batch in run.batches if batch.folded.counts.rows]
    ranges = [batch_range(run.checkpoint, batch.batch_id, {0: 0}) for batch in with_rows]
    assert ranges[0][0] == {0: 0}
    assert ranges[-1][1] == {0: 3}
    assert [end[0] - begin[0] for begin, end in ranges] == [batch.folded.counts.rows for batch in with_rows]
    assert resumable(run.checkpoint, run.batches[-1].batch_id, {0: 3}) == START


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.data())
def test_a_fingerprint_changes_with_each_part_and_with_nothing_else(parts: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(parts) - 1))
    other = data.draw(st.text(max_size=5).filter(lambda text: text != parts[place]))
    assert fingerprint(*parts) == fingerprint(*parts)
    assert fingerprint(*parts) != fingerprint(*parts[:place], other, *parts[place + 1 :])
    assert fingerprint(*parts) != fingerprint(*parts, "")
    assert fingerprint(1) != fingerprint("1")
