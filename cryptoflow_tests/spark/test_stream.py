"""The laws of the streaming loop, on real queries: order, failures, stop, drain, counts and state."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as sql

from cryptoflow.errors import AggregationError, BacklogError, CassandraError
from cryptoflow.model.candle import candles_of
from cryptoflow.settings import SparkSettings
from cryptoflow.spark import aggregation
from cryptoflow.spark.checkpoint import committed_offsets
from cryptoflow.spark.folded import Counts, Folded
from cryptoflow.spark.pack import Rules
from cryptoflow.spark.session import cause_of
from cryptoflow.spark.stream import Batch, CandleStream
from cryptoflow_tests.spark.streaming import NOON_S, PATIENCE_S, SETTINGS, Streaming, a_trade, after

Make = Callable[..., Streaming]


def test_batches_come_in_order_each_with_the_newest_state_of_its_candles(streaming: Make) -> None:
    run = streaming()
    run.stream.start()
    trades = [a_trade(number, time_s=NOON_S + number) for number in range(30)]
    for first in (0, 10, 20):
        run.send(trades[first : first + 10])
        run.await_written()
    assert [batch.batch_id for batch in run.batches] == list(range(len(run.batches)))
    assert [[each.candle.trades for each in batch.folded.found] for batch in run.batches] == [[10], [20], [30]]
    assert run.candles == candles_of(trades, SETTINGS.window_s)


def test_a_query_starts_over_what_one_that_was_killed_before_its_first_batch_left_behind(streaming: Make) -> None:
    run = streaming()
    for name in ("offsets", "commits"):
        (run.checkpoint / name).mkdir(parents=True)
    (run.checkpoint / "offsets" / ".0.5cdc2f5c-7fd8-4b2a-a7b4-1e2f7d1f5a10.tmp").write_text("v1")
    run.send([a_trade(1), a_trade(2)])
    run.stream.start()
    run.stream.drain({0: run.buffer.end}, after(PATIENCE_S))
    assert [candle.trades for candle in run.candles.values()] == [2]


def test_a_writers_error_ends_the_query_as_it_was_raised_and_its_batch_comes_again(streaming: Make) -> None:
    run = streaming()
    run.send([a_trade(1), a_trade(2)])

    def refuse(batch: Batch) -> None:
        raise CassandraError("the table is gone")

    run.before_write = refuse
    run.stream.start()
    with pytest.raises(CassandraError, match="the table is gone"):
        run.stream.drain({0: run.buffer.end}, after(PATIENCE_S))
    with pytest.raises(CassandraError, match="the table is gone"):
        run.stream.check()
    assert run.batches == []
    assert committed_offsets(run.checkpoint) == {}

    run.before_write = lambda batch: None
    run.another_stream().start()
    run.await_written()
    assert run.candles == candles_of([a_trade(1), a_trade(2)], SETTINGS.window_s)
    assert run.batches[0].batch_id == 0


def test_stop_lets_a_batch_be_written_and_commits_none_that_was_not(streaming: Make) -> None:
    run = streaming()
    begun, go_on = threading.Event(), threading.Event()

    def hold(batch: Batch) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)

    run.before_write = hold
    run.send([a_trade(1)])
    run.stream.start()
    assert begun.wait(PATIENCE_S)
    run.send([a_trade(2)])
    stopping = threading.Thread(target=run.stream.stop)
    stopping.start()
    stopping.join(0.5)
    assert stopping.is_alive()
    assert run.batches == []
    go_on.set()
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
    run.stream.check()
    assert [batch.batch_id for batch in run.batches] == [0]
    assert committed_offsets(run.checkpoint) in ({}, {0: 1})

    run.stream.start()
    run.stream.drain({0: 2}, after(PATIENCE_S))
    assert run.candles == candles_of([a_trade(1), a_trade(2)], SETTINGS.window_s)


def test_drain_does_not_wait_for_the_next_trigger(streaming: Make) -> None:
    run = streaming(SparkSettings(trigger_s=3600))
    run.send([a_trade(1)])
    run.stream.start()
    run.await_written()
    run.send([a_trade(2)])
    assert run.stream.drain({0: 2}, after(PATIENCE_S))
    assert run.stream.done() == {0: 2}
    assert [candle.trades for candle in run.candles.values()] == [2]


def test_drain_waits_for_the_metrics_of_its_last_batch(streaming: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # Spark commits a batch, and tells of it a moment later: `drain` looks just between the two.
    run = streaming(SparkSettings(trigger_s=3600))
    run.send([a_trade(1)])
    monkeypatch.setattr(run.stream, "done", lambda: {0: 1} if run.batches else {})
    run.stream.start()
    assert run.stream.drain({0: 1}, after(PATIENCE_S))
    found = run.stream.metrics()
    assert None not in (found.rows_per_s, found.batch_ms)


def test_drain_says_so_when_its_deadline_comes_first(streaming: Make) -> None:
    run = streaming()
    run.stream.start()
    assert not run.stream.drain({0: 1}, after(0.5))


def test_late_trades_and_duplicates_are_left_out_and_counted_exactly(streaming: Make) -> None:
    run = streaming()
    run.stream.start()
    later_s = NOON_S + 1000
    on_time = [a_trade(number, time_s=later_s) for number in range(20)]
    run.send([*on_time, *on_time[:5]])
    run.await_written()
    edge_s = later_s - int(SETTINGS.watermark_s)
    run.await_watermark(edge_s)
    barely = [a_trade(100 + number, time_s=edge_s, rest_ns=1000) for number in range(3)]
    late = [a_trade(200 + number, time_s=edge_s - number) for number in range(7)]
    run.send([*late, *barely, *on_time[5:8], a_trade(300, time_s=later_s)])
    run.await_written()
    assert (run.total("late"), run.total("duplicates"), run.total("unreadable")) == (7, 8, 0)
    counted = [*on_time, *barely, a_trade(300, time_s=later_s)]
    assert run.candles == candles_of(counted, SETTINGS.window_s)
    assert run.total("rows") == len(counted) + 15


def test_a_trade_far_ahead_is_in_no_candle_and_makes_nobody_late(streaming: Make) -> None:
    # The memory feed is received now, which its trades' times are to go by.
    #  now - 100      now         now + ahead_s      now + 55 minutes
    #     on time   on time    as far as it moves           x
    run = streaming()
    run.stream.start()
    now_s = int(time.time())
    on_time = [a_trade(number, time_s=now_s - 100) for number in range(3)]
    run.send([*on_time, a_trade(10, time_s=now_s + 55 * 60)])
    run.await_written()
    latest_s = now_s + int(SETTINGS.ahead_s)
    run.await_watermark(latest_s - int(SETTINGS.watermark_s))
    after_it = [a_trade(20, time_s=now_s - 100), a_trade(21, time_s=now_s + 1)]
    run.send(after_it)
    run.await_written()
    assert (run.total("late"), run.total("rows")) == (1, 6)
    assert run.candles == candles_of([*on_time, *after_it], SETTINGS.window_s)
    watermark_s = max(batch.watermark.timestamp() for batch in run.batches)
    assert watermark_s <= latest_s - SETTINGS.watermark_s + PATIENCE_S


def test_a_batch_that_is_not_admitted_is_neither_written_nor_committed_and_ends_the_query(
    tmp_path: Path, streaming: Make
) -> None:
    run = streaming()
    asked: list[int] = []

    def admit(batch_id: int) -> None:
        asked.append(batch_id)
        if batch_id:
            raise BacklogError("too much for a stream")

    stream = CandleStream(run.stream._rows, SETTINGS, tmp_path / "admitting", run._write, admit)
    run.stream = stream
    stream.start()
    run.send([a_trade(1)])
    run.await_written()
    run.send([a_trade(2)])
    with pytest.raises(BacklogError, match="too much for a stream"):
        stream.drain({0: 2}, after(PATIENCE_S))
    assert set(asked) == {0, 1}
    assert {batch.batch_id for batch in run.batches} == {0}
    assert stream.done() == {0: 1}


def test_a_full_disk_is_told_with_the_way_out() -> None:
    error = OSError("java.io.IOException: No space left on device")
    assert "Make room" in cause_of(error)
    assert cause_of(ValueError("first\nsecond")) == "first"


def test_a_batch_that_fails_in_spark_ends_the_query_with_its_reason(
    spark: SparkSession, tmp_path: Path, streaming: Make
) -> None:
    run = streaming()
    rows = aggregation.streamed(run.buffer.stream(spark), Rules(SETTINGS.window_s, SETTINGS.ahead_s), 300)
    broken = rows.withColumn("rows", sql.expr("if(rows > 0, raise_error('the state is broken'), rows)"))
    stream = CandleStream(broken, SETTINGS, tmp_path / "checkpoint", lambda batch: None)
    stream.start()
    run.send([a_trade(1)])
    with pytest.raises(AggregationError, match="the state is broken"):
        stream.drain({0: 1}, after(PATIENCE_S))


def test_a_batch_of_offsets_without_records_is_committed_and_takes_no_watermark_back(
    spark: SparkSession, tmp_path: Path, streaming: Make
) -> None:
    # Offsets may go on without a record: after a transaction, say.
    run = streaming()
    some = run.buffer.stream(spark).where("""value like '%"ID":"1"%'""")
    rows = aggregation.streamed(some, Rules(SETTINGS.window_s, SETTINGS.ahead_s), SETTINGS.watermark_s)
    run.stream = CandleStream(rows, SETTINGS, tmp_path / "without", run._write)
    run.stream.start()
    for number in (1, 2):
        run.send([a_trade(number)])
        assert run.stream.drain({0: number}, after(PATIENCE_S))
    assert [batch.folded.counts.rows for batch in run.batches] == [1, 0]
    assert run.batches[1].folded == Folded([], Counts(), [])
    assert {batch.watermark.timestamp() for batch in run.batches} == {NOON_S - SETTINGS.watermark_s}


def test_a_query_that_somebody_else_ended_is_no_quiet_end(streaming: Make) -> None:
    run = streaming()
    run.stream.start()
    assert run.stream._query is not None
    run.stream._query.stop()
    with pytest.raises(AggregationError, match="ended by itself"):
        run.stream.check()
