"""What a part leaves for the screen is read as it was left, whole, until it is forgotten."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.candle import Candle, Side
from cryptoflow.runtime.metrics import (
    AggregateMetrics,
    FeedMetrics,
    IngestMetrics,
    MemoryMetrics,
    PartMetrics,
    RepairMetrics,
    StreamMetrics,
)
from cryptoflow.runtime.status import PartStatus, forget_status, read_statuses, write_status

CANDLE = Candle(
    "Kraken", "BTC", "USD", datetime(2024, 8, 8, 23, 59, tzinfo=UTC), 60,
    1.0, 4.0, 0.5, 2.0, 3, 1.5, 3.25, Side(1, 1.0, 2.0, 2.0), Side(),
)  # fmt: skip

counts = st.integers(0, 2**63)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
parts = (
    st.builds(IngestMetrics, feed=st.builds(FeedMetrics, trades=counts, gaps=counts), acknowledged=counts)
    | st.builds(AggregateMetrics, late=counts, watermark_s=numbers, stream=st.builds(StreamMetrics, rows_per_s=numbers))
    | st.builds(MemoryMetrics, late=counts)
    | st.builds(RepairMetrics, hours=counts, hours_left=counts)
)


@given(parts)
def test_metrics_are_read_as_they_were_left(left: PartMetrics) -> None:
    with TemporaryDirectory() as folder:
        write_status(Path(folder), "run", "part", PartStatus(left))
        assert read_statuses(Path(folder), "run") == {"part": PartStatus(left)}


def test_candles_and_the_notice_are_read_as_they_were_left(tmp_path: Path) -> None:
    status = PartStatus(MemoryMetrics(late=3), "The trades are not real.", [CANDLE])
    write_status(tmp_path, "run", "aggregate_in_memory", status)
    assert read_statuses(tmp_path, "run") == {"aggregate_in_memory": status}


def test_parts_and_runs_are_apart_and_the_newest_counts(tmp_path: Path) -> None:
    write_status(tmp_path, "one", "ingest", PartStatus(IngestMetrics(acknowledged=1)))
    write_status(tmp_path, "one", "ingest", PartStatus(IngestMetrics(acknowledged=2)))
    write_status(tmp_path, "one", "aggregate", PartStatus(AggregateMetrics(late=3)))
    write_status(tmp_path, "two", "ingest", PartStatus(IngestMetrics(acknowledged=4)))
    assert {part: each.metrics for part, each in read_statuses(tmp_path, "one").items()} == {
        "ingest": IngestMetrics(acknowledged=2),
        "aggregate": AggregateMetrics(late=3),
    }


def test_a_forgotten_run_leaves_nothing_and_the_others_stay(tmp_path: Path) -> None:
    for run in ("one", "two"):
        write_status(tmp_path, run, "ingest", PartStatus())
    forget_status(tmp_path, "one")
    forget_status(tmp_path, "never-was")
    assert read_statuses(tmp_path, "one") == {}
    assert list((tmp_path / "runs").iterdir()) == [tmp_path / "runs" / "two"]


def test_a_reader_never_sees_half_a_status(tmp_path: Path) -> None:
    status = PartStatus(None, "x", [CANDLE] * 200)
    write_status(tmp_path, "run", "part", status)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            write_status(tmp_path, "run", "part", status)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            assert read_statuses(tmp_path, "run") == {"part": status}
    finally:
        done.set()
        writer.join()
