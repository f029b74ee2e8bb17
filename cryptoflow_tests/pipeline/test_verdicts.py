"""Verdicts by numbers, and the topic of the past, on a real Kafka and Cassandra."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import pytest

from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.model.trade import Trade
from cryptoflow.model.verdict import COMPLETE, LOG_CUT, NOT_AFTER, NOT_BEFORE, QUIET, REPAIRED, SUSPECT
from cryptoflow.pipeline import recompute
from cryptoflow.pipeline.marking import EVERY_PAIR, FINISHED, whole_mark
from cryptoflow.tables.connection import ensure_schema
from cryptoflow.tables.schema import HOURS, HourRow, MarkRow
from cryptoflow_tests.repairing import BTC, ETH, HOUR_S, ONE_HOUR, T0, World, a_trade, moment, numbered

HOUR = moment(T0)


def counted(first: int, start_s: int, many: int, pair: tuple[str, str, str] = BTC, step_s: int = 60) -> list[Trade]:
    """Trades with numbers on end, from a time on."""
    return numbered(a_trade(first + number, start_s + number * step_s, pair) for number in range(many))


def finish(world: World, hours: int, marks: Sequence[MarkRow] = ()) -> None:
    """Commit hours, and ask for their verdicts, as an aggregation does."""
    finished = [HOUR + number * ONE_HOUR for number in range(hours)]
    topic_id = world.log().topic_id
    asked = [whole_mark(hour, EVERY_PAIR, world.kafka.topic, topic_id, FINISHED) for hour in finished]
    world.commit([], finished[-1] + ONE_HOUR, [*asked, *marks])


def begun(world: World) -> None:
    """What was there before is finished."""
    world.commit([], HOUR, begins=world.log().ends())


def told(world: World, hour: datetime, pair: tuple[str, str, str] = BTC) -> tuple[str, str, int]:
    row = world.hour(hour, pair)
    return row.verdict, row.reason, row.gaps


def test_each_finished_hour_has_a_verdict_and_a_hole_is_told_until_it_is_filled(world: World) -> None:
    #  hour      0        1        2          3         4
    #  BTC    1..60    (quiet)   61..120   121..180  181..
    #  lost                       70,119    125
    every = [
        *counted(1, T0, 60),
        *counted(61, T0 + 2 * HOUR_S, 60),
        *counted(121, T0 + 3 * HOUR_S, 60),
        *counted(181, T0 + 4 * HOUR_S, 60),
    ]
    lost = [trade for trade in every if trade.id in ("70", "119", "125")]
    begun(world)
    world.send([*(trade for trade in every if trade not in lost), *counted(1, T0, 5, ETH)])
    finish(world, 5)
    world.repair()
    hours = [HOUR + number * ONE_HOUR for number in range(5)]
    assert [told(world, hour) for hour in hours] == [
        (SUSPECT, NOT_BEFORE, 0),
        (QUIET, "the numbers before and after it join", 0),
        (SUSPECT, "2 trades missing: 70, 119 did not come", 2),
        (SUSPECT, "1 trade missing: 125 did not come", 1),
        (SUSPECT, NOT_AFTER, 0),
    ]
    assert world.hour(hours[1], ETH).verdict == SUSPECT
    assert world.marks() == []

    # The venue gives two of them, and one of the live trades once more; the third it does not have.
    past = world.past()
    places = world.send([lost[0], lost[2], every[65]], at_s=T0 + 6 * HOUR_S, log=past)
    found = {hours[2]: [places[0], places[2]], hours[3]: [places[1]]}
    newest = {hours[2]: lost[0], hours[3]: lost[2]}
    world.commit([], hours[4] + ONE_HOUR, [world.mark(newest[hour], found[hour], past) for hour in found])
    world.repair()
    world.check([trade for trade in world.sent if trade is not lost[1]])
    assert told(world, hours[2]) == (SUSPECT, "1 trade missing: 119 did not come", 1)
    assert told(world, hours[3]) == (REPAIRED, "trades were filled in", 0)
    assert [(world.hour(hour).late, world.hour(hour).duplicates) for hour in hours[2:4]] == [(0, 1), (0, 0)]

    places = world.send([lost[1]], at_s=T0 + 6 * HOUR_S, log=past)
    world.commit([], hours[4] + ONE_HOUR, [world.mark(lost[1], places, past)])
    world.repair()
    world.check()
    assert told(world, hours[2]) == (REPAIRED, "trades were filled in", 0)
    before = world.hour(hours[2])
    world.repair(hours[2])  # what was filled in is found again, without a mark
    world.check()
    assert world.hour(hours[2])._replace(repaired_at=None) == before._replace(repaired_at=None)


@pytest.mark.usefixtures("one_spark")
def test_of_a_trade_in_both_topics_the_live_one_counts_by_python_and_by_spark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, filled = counted(1, T0, 30), counted(21, T0 + 20 * 60, 40)
    begun(world)
    world.send(live)
    past = world.past()
    others = [msgspec.structs.replace(trade, price=trade.price + 1) for trade in filled]
    places = world.send(others, at_s=T0 + 2 * HOUR_S, log=past)
    world.commit(live, HOUR + ONE_HOUR, [world.mark(others[-1], places, past)])
    world.repair()
    truth = [*live, *others[10:]]
    world.check(truth)
    assert (world.hour(HOUR).in_candles, world.hour(HOUR).duplicates) == (60, 10)
    for table in ("candles", "trademsgs1minutewindow"):
        world.session.execute(f"TRUNCATE {table}")
    monkeypatch.setattr(recompute, "SMALL", 0)
    world.repair(HOUR)
    world.check(truth)
    row = world.hour(HOUR)
    assert (row.in_candles, row.duplicates, row.first_number, row.last_number) == (60, 10, 1, 60)


def test_hours_that_numbers_prove_are_computed_though_the_live_log_is_cut(world: World) -> None:
    #  hour        0         1         2         3
    #  past     1..60    61..120   121..180   (nothing)
    #  live      cut        cut        cut
    begun(world)
    world.send(counted(500, T0, 1, ETH))
    world.send(counted(900, T0 + 3 * HOUR_S, 1, ETH))
    hours = [HOUR + number * ONE_HOUR for number in range(3)]
    days = {hour: counted(1 + 60 * number, T0 + number * HOUR_S, 60) for number, hour in enumerate(hours)}
    past, marks = world.past(), []
    for hour in reversed(hours):  # as a venue gives them
        places = world.send(reversed(days[hour]), at_s=T0 + 5 * HOUR_S, log=past)
        marks.append(world.mark(days[hour][-1], places, past))
    world.commit([], hours[-1] + 2 * ONE_HOUR, marks)
    world.delete_before({place: end for place, end in world.log().ends().items() if end})
    world.repair()
    world.check(days[hours[1]])
    cut = SUSPECT, LOG_CUT
    assert [told(world, hour)[:2] for hour in hours] == [cut, (REPAIRED, "trades were filled in"), cut]
    assert world.hour(hours[1]).late == 0

    # One more trade on each side, and those hours are proven, too.
    more = [*counted(0, T0 - 60, 1), *counted(181, T0 + 3 * HOUR_S, 1)]
    places = world.send(more, at_s=T0 + 5 * HOUR_S, log=past)
    marks = [world.mark(trade, [place], past) for trade, place in zip(more, places, strict=True)]
    world.commit([], hours[-1] + 2 * ONE_HOUR, marks)
    world.repair()
    assert {mark.hour for mark in world.marks()} == {hours[0], hours[2]}
    world.repair()
    world.check([trade for day in days.values() for trade in day])
    assert {told(world, hour)[0] for hour in hours} == {REPAIRED}


def test_trades_that_were_filled_in_stay_though_their_topic_is_gone(world: World) -> None:
    begun(world)
    every = counted(1, T0, 60)
    world.send([trade for trade in every if trade.id not in ("30", "31")])
    filled = every[29:31]
    past = world.past()
    mark = world.mark(filled[-1], world.send(filled, at_s=T0 + HOUR_S, log=past), past)
    finish(world, 1, [mark])
    world.repair()
    world.check(every)
    with admin_client(world.kafka, "to delete a topic") as admin:
        admin.delete_topics([past.topic])
    world.repair(HOUR)
    world.check(every)
    assert told(world, HOUR) == (SUSPECT, LOG_CUT, 0)


def test_a_table_of_hours_of_an_earlier_version_gets_the_later_columns(world: World) -> None:
    begun(world)
    world.send(counted(1, T0, 3))
    world.commit([], HOUR + ONE_HOUR)
    world.session.execute(f"ALTER TABLE hours DROP ({', '.join(HOURS.added)})")
    columns = [name for name in HourRow._fields if name not in HOURS.added]
    values = (*BTC, HOUR.replace(hour=0), HOUR, 3, 3, 0, 2, 0, COMPLETE, "", HOUR, "[]")
    world.session.execute(
        f"INSERT INTO hours ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})", values
    )
    old = world.hour(HOUR)
    assert (old.late, old.first_number, old.missing, old.rewritten) == (2, None, None, None)
    ensure_schema(world.session, world.cassandra)
    world.repair(HOUR)
    row = world.hour(HOUR)
    assert (row.verdict, row.late, row.first_number, row.last_number) == (SUSPECT, 2, 1, 3)
