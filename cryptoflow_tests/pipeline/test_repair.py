"""Repairs: both tables become what the log says, in finished windows only, and what waits is worked off."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from cassandra.cluster import Session

from cryptoflow.errors import AlreadyRunningError
from cryptoflow.model.candle import candle_row, candles_of
from cryptoflow.model.verdict import COMPLETE, LOG_CUT, REPAIRED, SUSPECT
from cryptoflow.pipeline import recompute
from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.marking import mark_pairs
from cryptoflow.pipeline.part import RunContext
from cryptoflow.pipeline.recompute import Recomputer
from cryptoflow.pipeline.repair import hours_between
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.metrics import AggregateMetrics
from cryptoflow.settings import SparkSettings
from cryptoflow.tables import lease
from cryptoflow.tables.lease import wall_clock_us
from cryptoflow.tables.schema import CANDLES, MARKS
from cryptoflow.tables.writer import TableWriter
from cryptoflow_tests.repairing import BTC, ETH, HOUR_S, ONE_HOUR, T0, World, a_trade, moment, some_trades

HOUR = moment(T0)
ALL = some_trades(T0, T0 + HOUR_S)
"""An hour of both pairs."""


@pytest.fixture
def lacking(world: World) -> World:
    """The hour is finished; five of its trades came too late, and the mark says where they lie."""
    late = ALL[100:110:2]
    in_time = [trade for trade in ALL if trade not in late]
    begins = world.log().ends()
    world.send(in_time)
    world.commit(in_time, HOUR, begins=begins)
    places = world.send(late, at_s=T0 + 2 * HOUR_S)
    world.commit([], HOUR + ONE_HOUR, [world.mark(late[-1], places)])
    return world


def aggregated(world: World) -> AggregateMetrics:
    """Aggregate what is in the topic."""
    settings = SparkSettings(watermark_s=60, max_ahead_s=30, trigger_s=3600)
    return aggregate(world.kafka, world.cassandra, settings, RunContext(world.home, timeout_s=0.01))


@pytest.mark.parametrize(
    ("start_s", "end_s", "count"), [(0, HOUR_S, 1), (0, 1, 1), (HOUR_S - 1, HOUR_S + 1, 2), (5, 5, 1), (0, 0, 0)]
)
def test_the_hours_of_a_stretch_are_all_that_it_touches(start_s: int, end_s: int, count: int) -> None:
    found = hours_between(moment(T0 + start_s), moment(T0 + end_s))
    assert found == [HOUR + ONE_HOUR * number for number in range(count)]


@pytest.mark.usefixtures("one_spark")
def test_trades_late_by_a_minute_an_hour_and_two_days_and_one_ahead_get_into_their_candles(world: World) -> None:
    # |-- two days ago --|      |---- hour before ----|---- hour at hand --- T |---- hour after ----|
    #      late                        late                        late  late         ahead, at T
    now_s = T0 + 60 * HOUR_S
    world.send(some_trades(now_s - 48 * HOUR_S, now_s - 48 * HOUR_S + 600))
    world.send(some_trades(now_s - HOUR_S, now_s + 1740))
    world.commit(world.sent, moment(now_s + 1740))

    late = [a_trade(number, now_s + 1800 - back_s, pair) for number, (back_s, pair) in enumerate(
        [(180, BTC), (181, ETH), (HOUR_S + 10, BTC), (48 * HOUR_S + 1500, ETH), (48 * HOUR_S + 1501, BTC)]
    )]  # fmt: skip
    ahead = a_trade(77, now_s + 1800 + 55 * 60)
    world.send([*late, ahead], at_s=now_s + 1800)
    onwards = some_trades(now_s + 1740, now_s + 2400)
    world.send(onwards)
    told = aggregated(world)
    assert told.late == told.waiting_trades == world.waiting() == 6

    summary = world.repair()
    assert summary.waiting == [moment(now_s + HOUR_S)]
    assert world.waiting() == 1
    world.check([trade for trade in world.sent if trade is not ahead])

    onwards += some_trades(now_s + 2400, now_s + 2 * HOUR_S, 60)
    world.send(onwards[-160:])
    world.commit(onwards, moment(now_s + 2 * HOUR_S))
    assert world.repair().waiting == []
    assert world.waiting() == 0
    world.check()
    rows = [world.hour(moment(now_s + hours * HOUR_S)) for hours in (-48, -1, 0, 1)]
    assert [(row.verdict, row.reason, row.late) for row in rows] == [
        (REPAIRED, "late trades", 1),
        (REPAIRED, "late trades", 1),
        (REPAIRED, f"late trades, until {moment(now_s + 2280):%H:%M}", 1),
        (REPAIRED, "late trades", 1),
    ]


@pytest.mark.usefixtures("one_spark")
def test_trades_replayed_into_a_topic_made_anew_change_nothing_and_wait_no_more(world: World) -> None:
    world.send(ALL)
    world.commit(ALL, HOUR + ONE_HOUR)
    world.new_topic()
    onwards = some_trades(T0 + HOUR_S, T0 + 3 * HOUR_S, 60)
    world.send([*ALL[-20:], *onwards])
    assert aggregated(world).late == 20
    assert world.waiting() == 20
    assert world.repair().waiting == []
    assert world.waiting() == 0
    world.check()
    assert (world.hour(HOUR).verdict, world.hour(HOUR).reason) == (SUSPECT, LOG_CUT)


def test_an_hour_gets_the_trades_that_it_lacks_and_says_so(lacking: World) -> None:
    summary = lacking.repair()
    lacking.check()
    assert (lacking.waiting(), lacking.marks(), summary.waiting) == (0, [], [])
    row = lacking.hour(HOUR)
    assert (row.verdict, row.reason, row.in_log, row.in_candles, row.late) == (REPAIRED, "late trades", 120, 120, 5)
    [(hour, done)] = lacking.after_hours
    assert hour == HOUR
    assert [(each.row[:3], each.written, each.removed) for each in done] == [(BTC, 3, 0), (ETH, 0, 0)]
    assert lacking.hour(HOUR, ETH).verdict == COMPLETE


def test_a_second_repair_writes_nothing_and_keeps_what_is_known(lacking: World) -> None:
    lacking.repair()
    before = lacking.hour(HOUR)
    lacking.repair(HOUR)
    lacking.check()
    after = lacking.hour(HOUR)
    assert {each.written for _, done in lacking.after_hours for each in done} == {0}
    assert after._replace(repaired_at=None) == before._replace(repaired_at=None)


def test_only_the_pair_that_is_asked_for_is_repaired(lacking: World) -> None:
    assert lacking.repair(market="Kraken").repaired == []
    lacking.repair(HOUR, market="Kraken", coins=("ETH", "EUR"))
    assert lacking.waiting() == 5
    lacking.repair(market="Coinbase")
    lacking.check()


def test_rows_that_the_log_lacks_are_removed(lacking: World) -> None:
    wrong = [*candles_of([a_trade(1, T0 + 7, ("Nowhere", "BTC", "USD"))], 60).values()]
    writer = TableWriter(lacking.session, lacking.cassandra)
    writer.put_candles(wrong, wall_clock_us())
    alone = candles_of([a_trade(2, T0 + 7, ("Nowhere", "ETH", "USD"))], 60).values()
    writer.put_candles([*alone], wall_clock_us())
    writer.remove(CANDLES, list(map(candle_row, alone)), wall_clock_us())
    lacking.repair(HOUR)
    lacking.check()
    assert lacking.hour(HOUR, ("Nowhere", "BTC", "USD")).in_log == 0


def test_dropped_tables_are_filled_again(lacking: World) -> None:
    for table in ("candles", "trademsgs1minutewindow"):
        lacking.session.execute(f"DROP TABLE {table}")
    lacking.repair(HOUR)
    lacking.check()


def test_windows_whose_trades_kafka_has_deleted_keep_their_rows(lacking: World) -> None:
    lacking.delete_before(dict.fromkeys(lacking.log().ends(), 3))
    lacking.repair()
    row = lacking.hour(HOUR)
    assert (row.verdict, row.reason, row.in_candles) == (SUSPECT, LOG_CUT, 115)
    assert lacking.waiting() == 0
    late = ALL[100:110:2]
    lacking.check([trade for trade in lacking.sent if trade not in late])


def test_whole_windows_behind_what_kafka_has_deleted_get_their_late_trades(world: World) -> None:
    #  received    0:00      0:30       1:00       1:30       2:00
    #  Kafka          deleted |------------------------------------   a trade may be an hour ahead of its time
    #  whole                                        |--------------
    trades, late = some_trades(T0, T0 + 2 * HOUR_S), [a_trade(1, T0 + 4200), a_trade(2, T0 + 6300)]
    world.commit([], HOUR, begins=world.log().ends())
    sent = world.send(trades)
    world.commit(trades, HOUR + 2 * ONE_HOUR)
    places = world.send(late, at_s=T0 + 3 * HOUR_S)
    world.commit([], HOUR + 3 * ONE_HOUR, [world.mark(late[-1], places)])
    deleted = {place: offset for trade, (place, offset) in zip(trades, sent, strict=True) if trade.time_s <= T0 + 1800}
    world.delete_before(deleted)
    world.repair()
    world.check([*trades, late[1]])
    row = world.hour(HOUR + ONE_HOUR)
    assert (row.verdict, row.reason, row.late, world.waiting()) == (SUSPECT, LOG_CUT, 1, 0)


def test_an_hour_waits_until_it_is_finished(world: World) -> None:
    assert world.repair(HOUR).waiting == [HOUR]
    assert world.repair(HOUR).finished is None
    world.send(ALL)
    world.commit([], HOUR)
    summary = world.repair(HOUR)
    assert (summary.waiting, summary.finished, world.after_hours) == ([HOUR], HOUR, [])


def test_what_is_finished_of_an_hour_is_repaired(world: World) -> None:
    begins = world.log().ends()
    world.send(ALL)
    world.commit([], HOUR, begins=begins)
    half = HOUR + timedelta(minutes=30)
    world.commit([], half, begins=begins)
    world.repair(HOUR)
    world.check([trade for trade in ALL if trade.time_s < T0 + 1800])
    row = world.hour(HOUR)
    assert (row.in_log, row.verdict, row.reason) == (60, REPAIRED, f"the rows differed, until {half:%H:%M}")


def test_a_mark_written_anew_with_more_trades_while_it_is_worked_off_stays(
    lacking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    [mark] = lacking.marks()
    again = mark._replace(last_offset=mark.last_offset + 3, trades=8)
    read = Recomputer.candles

    def overtaken(self: Recomputer, *arguments: Any) -> Any:
        holder = Holder.current("", lacking.home)
        with lease.held(lacking.session, lease.AGGREGATE, holder, "aggregates") as held:
            TableWriter(lacking.session, lacking.cassandra).put(MARKS, [again], held.timestamp())
        return read(self, *arguments)

    monkeypatch.setattr(Recomputer, "candles", overtaken)
    lacking.repair()
    assert lacking.marks() == [again]


def test_an_hour_that_an_audit_marked_is_repaired(lacking: World) -> None:
    lacking.repair()
    deleted = next(iter(candles_of(ALL, 60).values()))
    lacking.delete_candle(deleted)
    mark_pairs(lacking.session, lacking.cassandra, [(HOUR, BTC)], lacking.kafka)
    assert (lacking.waiting(), len(lacking.marks())) == (0, 1)
    before = lacking.hour(HOUR)
    lacking.repair()
    lacking.check()
    assert lacking.marks() == []
    assert lacking.hour(HOUR).stretches == before.stretches
    mark_pairs(lacking.session, lacking.cassandra, [(HOUR, BTC)], lacking.kafka)
    assert len(lacking.marks()) == 1


def test_the_repair_reads_what_was_marked_once_again_later(lacking: World) -> None:
    lacking.repair()
    for table in ("candles", "trademsgs1minutewindow"):
        lacking.session.execute(f"TRUNCATE {table}")
    lacking.commit([], HOUR + 5 * ONE_HOUR)
    lacking.repair(HOUR)
    lacking.check()


@pytest.mark.usefixtures("one_spark")
def test_an_hour_that_spark_repairs_is_as_one_that_python_repairs(
    lacking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking.repair()
    python = sorted(lacking.session.execute("SELECT * FROM candles"))
    lacking.session.execute("TRUNCATE candles")
    lacking.session.execute("TRUNCATE hours")
    monkeypatch.setattr(recompute, "SMALL", 0)
    lacking.repair(HOUR)
    lacking.check()
    spark = sorted(lacking.session.execute("SELECT * FROM candles"))
    assert [row[:6] for row in spark] == [row[:6] for row in python]
    for one, other in zip(python, spark, strict=True):
        assert tuple(one)[6:] == pytest.approx(tuple(other)[6:], rel=1e-12)


@pytest.mark.parametrize("small", [recompute.SMALL, 0])
@pytest.mark.usefixtures("one_spark")
def test_hours_of_one_slice_of_the_log_are_read_once(small: int, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    #  hours     0 1 2 3     4
    #  slices   |-------|   |-|   received when all of them were past
    trades, read = some_trades(T0, T0 + 5 * HOUR_S, 120), Recomputer.candles
    counts: list[int] = []

    def counting(self: Recomputer, *arguments: Any) -> Any:
        made = read(self, *arguments)
        counts.append(self.read)
        return made

    monkeypatch.setattr(Recomputer, "candles", counting)
    monkeypatch.setattr(recompute, "SMALL", small)
    world.commit([], HOUR, begins=world.log().ends())
    for number, of_slice in enumerate((trades[: 4 * 60], trades[4 * 60 :])):
        world.send(of_slice, at_s=T0 + (6 + number) * HOUR_S)
        world.commit([], HOUR + (4 + number) * ONE_HOUR)
    every = [HOUR + number * ONE_HOUR for number in range(5)]
    assert [each.row.verdict for each in world.repair(*every).repaired] == [REPAIRED] * 10
    assert [hour for hour, _ in world.after_hours] == every
    assert counts == [len(trades)]
    world.check()


def test_a_stop_ends_it_between_two_hours(lacking: World) -> None:
    run = RunContext(lacking.home)
    run.stop.set()
    assert lacking.repair(run=run).repaired == []
    assert lacking.waiting() == 5


def test_a_second_repair_of_the_same_tables_is_refused(lacking: World) -> None:
    holder = Holder.current("another", lacking.home)
    with lease.held(lacking.session, lease.REPAIR, holder, "repairs"), pytest.raises(AlreadyRunningError):
        lacking.repair()


def test_a_repair_that_takes_long_keeps_its_lease(lacking: World, monkeypatch: pytest.MonkeyPatch) -> None:
    held, read, seen = lease.held, Recomputer.candles, []

    def short(session: Session, name: str, holder: Holder, refusal: str, wait: Any) -> Any:
        return held(session, name, holder, refusal, wait, ttl_s=2)

    def slowly(self: Recomputer, *arguments: Any) -> Any:
        threading.Event().wait(4)
        seen.append(lease.read(lacking.session, lease.REPAIR).holder)
        return read(self, *arguments)

    monkeypatch.setattr(lease, "held", short)
    monkeypatch.setattr(lease, "START_S", 0.0)
    monkeypatch.setattr(lease, "STALLED_S", 1.0)
    monkeypatch.setattr(Recomputer, "candles", slowly)
    lacking.repair()
    assert len(seen) == 1
    assert None not in seen


def test_a_repair_beside_an_aggregation_leaves_what_is_not_finished_alone(
    lacking: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    onwards, read = some_trades(T0 + HOUR_S, T0 + HOUR_S + 600), Recomputer.candles

    def overtaken(self: Recomputer, *arguments: Any) -> Any:
        lacking.send(onwards)
        lacking.commit(onwards, HOUR + ONE_HOUR)
        return read(self, *arguments)

    monkeypatch.setattr(Recomputer, "candles", overtaken)
    lacking.repair()
    lacking.check()
    assert lacking.waiting() == 0
    assert lacking.repair(HOUR + ONE_HOUR).waiting == [HOUR + ONE_HOUR]


def test_what_a_stale_repair_still_writes_never_wins(lacking: World) -> None:
    holder = Holder.current("stale", lacking.home)
    writer = TableWriter(lacking.session, lacking.cassandra)
    with lease.held(lacking.session, lease.REPAIR, holder, "repairs") as stale:
        timestamp = stale.timestamp()
    lacking.repair()
    writer.put_candles([*candles_of(ALL[100:110:2], 60).values()], timestamp)
    lacking.check()


def test_a_repair_wins_over_rows_that_a_clock_ahead_has_stamped(lacking: World) -> None:
    holder, hour_us = Holder.current("ahead", lacking.home), 3_600_000_000
    with lease.held(
        lacking.session, lease.AGGREGATE, holder, "aggregates", clock_us=lambda: wall_clock_us() + hour_us
    ) as ahead:
        writer = TableWriter(lacking.session, lacking.cassandra)
        for _ in range(2):
            writer.put_candles([*candles_of(ALL[:50], 60).values()], ahead.timestamp())
            lacking.repair(HOUR)
            lacking.check()
