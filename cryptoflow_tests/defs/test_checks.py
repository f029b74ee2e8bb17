"""Each check passes on right data and fails on wrong data, in a real Kafka and a real Cassandra."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec
import pytest
from cassandra.cluster import Session
from kafka import KafkaProducer, TopicPartition

from cryptoflow.definitions import defs
from cryptoflow.defs.checks import (
    closed_hour_matches_topic,
    dead_letter_share,
    lag,
    no_missing_minutes,
    no_suspect_hours,
)
from cryptoflow.defs.resources import CassandraResource, FeedResource, KafkaResource, SparkResource
from cryptoflow.kafka_io.connection import admin_client, client_config
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local.processes import free_port
from cryptoflow.model.candle import candles_of
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.trade import Trade, write_trade
from cryptoflow.model.verdict import COMPLETE, NOT_AFTER, NOT_BEFORE, REPAIRED, SUSPECT
from cryptoflow.model.window import EPOCH, utc_midnight
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables import progress
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.reader import marks
from cryptoflow.tables.schema import BATCHES, HOURS, MARKS, TRADE_WINDOWS, BatchRecord, HourRow, MarkRow
from cryptoflow.tables.writer import TableWriter

HOUR_S = 3600
START_S = int(time.time()) // HOUR_S * HOUR_S - HOUR_S
"""The hour that ended last."""
START = datetime.fromtimestamp(START_S, UTC)
END = START + timedelta(hours=1)

BTC, ETH = ("Coinbase", "BTC", "USD"), ("Kraken", "ETH", "EUR")
SUBSCRIPTIONS = ",".join("~".join(["0", *pair]) for pair in (BTC, ETH))
FLAGS = ("1", "2", "4", "9")

# Dagster makes its own definitions with a parameter of its own that is in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of")


def a_trade(number: int, pair: tuple[str, str, str] = BTC, time_s: int = START_S) -> Trade:
    return Trade(*pair, FLAGS[number % len(FLAGS)], str(number), time_s, 1.0, 100.0 + number, 100.0 + number)


HOUR = [a_trade(number, pair, START_S + 20 * number) for number in range(HOUR_S // 20) for pair in (BTC, ETH)]
"""Three trades a minute of each pair, of all sides."""


@dataclass
class Data:
    """A topic, the tables and the progress, as an aggregation would leave them."""

    kafka: KafkaSettings
    cassandra: CassandraSettings
    session: Session
    _batches: int = 0

    @property
    def resources(self) -> dict[str, Any]:
        return {
            "kafka": KafkaResource(bootstrap_servers=self.kafka.bootstrap_servers, topic=self.kafka.topic),
            "cassandra": CassandraResource(port=self.cassandra.port, keyspace=self.cassandra.keyspace),
            "spark": SparkResource(),
            "feed": FeedResource(subscriptions=SUBSCRIPTIONS),
        }

    def send(self, trades: Iterable[Trade], garbage: int = 0) -> None:
        """Into the topic, as the ingester does; `garbage` records too."""
        with TradeProducer(self.kafka) as producer:
            for trade in trades:
                producer.trade(trade, write_trade(trade))
            for _ in range(garbage):
                producer.trade(HOUR[0], b"no trade")

    def send_at(self, time_s: float, trade: Trade) -> None:
        """Into partition 0 of the topic, as if it had come then."""
        producer = KafkaProducer(**client_config(self.kafka))
        producer.send(self.kafka.topic, write_trade(trade), partition=0, timestamp_ms=int(time_s * 1000))
        producer.close()

    def delete_records(self) -> None:
        """All that the topic has, as its retention would."""
        ends = end_offsets(self.kafka, self.kafka.topic)
        with admin_client(self.kafka, "to delete records") as admin:
            admin.delete_records({TopicPartition(self.kafka.topic, each): end for each, end in ends.items()})

    def aggregate(
        self,
        trades: Iterable[Trade],
        finished: datetime | None = END,
        offsets: Offsets | None = None,
        **counts: Any,
    ) -> None:
        """Write the candles of the trades and commit a batch up to the offsets, by default the topic's end."""
        writer, now_us = TableWriter(self.session, self.cassandra), time.time_ns() // 1000
        record = BatchRecord(f"{self.kafka.topic}/q", self._batches, finished_at=datetime.now(UTC), **counts)
        self._batches += 1
        writer.put_candles(list(candles_of(trades, 60).values()), now_us)
        writer.put(BATCHES, [record], now_us)
        done = end_offsets(self.kafka, self.kafka.topic) if offsets is None else offsets
        place = Place(60, self.kafka.topic, topic_id(self.kafka))
        progress.claim(self.session, place, 1)
        progress.write(self.session, place, 1, Progress(finished or EPOCH, done, done))

    def mark(self, trades: int) -> None:
        """So many trades of the hour wait for a repair."""
        until = START + timedelta(minutes=1)
        row = MarkRow(START, *BTC, topic_id(self.kafka), 0, 0, trades, self.kafka.topic, trades, until, "late")
        TableWriter(self.session, self.cassandra).put(MARKS, [row], time.time_ns() // 1000)

    def delete_candle(self, pair: tuple[str, str, str], start: datetime) -> None:
        """One row of `candles`."""
        self.session.execute(
            "DELETE FROM candles WHERE market = %s AND fromcoin = %s AND tocurrency = %s"
            " AND window_seconds = 60 AND date = %s AND window_start = %s",
            (*pair, utc_midnight(start + timedelta(minutes=1)), start),
        )


@pytest.fixture(scope="module")
def cassandra(cassandra_port: int) -> CassandraSettings:
    """Tables that the tests of this module share: each writes the rows of the same hour anew."""
    return CassandraSettings(port=cassandra_port, keyspace=f"test_{uuid.uuid4().hex}")


@pytest.fixture(scope="module")
def session(cassandra: CassandraSettings) -> Iterator[Session]:
    with connect(cassandra) as connected:
        ensure_schema(connected, cassandra)
        yield connected


@pytest.fixture
def data(
    kafka_bootstrap: str,
    topic: str,
    cassandra: CassandraSettings,
    session: Session,
) -> Data:
    """An empty topic, no mark, and no verdict."""
    for table in ("marks", "hours"):
        session.execute(f"TRUNCATE {table}")
    kafka = KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic, partitions=2)
    make_topics(kafka)
    return Data(kafka, cassandra, session)


@pytest.fixture
def filled(data: Data) -> Data:
    """The hour, aggregated."""
    data.send(HOUR)
    data.aggregate(HOUR, input_rows=len(HOUR))
    return data


def closed_hour(data: Data) -> dict[str, dg.AssetCheckResult]:
    """The results by table."""
    resources = {name: data.resources[name] for name in ("kafka", "cassandra", "spark")}
    found: Any = closed_hour_matches_topic(**resources)
    return {result.asset_key.to_user_string(): result for result in found}


def passed(results: dict[str, dg.AssetCheckResult]) -> dict[str, bool]:
    return {table: result.passed for table, result in results.items()}


def minutes(data: Data) -> Any:
    return no_missing_minutes(**data.resources)


def check(function: Callable[..., Any], data: Data) -> Any:
    """The result of a check that asks Kafka and Cassandra alone."""
    others = {"spark": data.resources["spark"]} if function is lag else {}
    return function(kafka=data.resources["kafka"], cassandra=data.resources["cassandra"], **others)


def values(result: dg.AssetCheckResult) -> dict[str, Any]:
    return {name: entry.value for name, entry in result.metadata.items()}


def rows(result: dg.AssetCheckResult) -> list[dict[str, Any]]:
    table: Any = result.metadata["pairs"]
    return [record.data for record in table.records]


def test_an_hour_passes_whatever_else_is_in_the_topic(data: Data) -> None:
    #   |-- before --|------ hour ------|-- after --|      and in between: one late, all again, garbage
    others = [a_trade(10_000, time_s=START_S - 1), a_trade(10_001, time_s=START_S + HOUR_S)]
    late = a_trade(10_003, time_s=START_S + 5)
    data.send([*HOUR, *others, *HOUR[:50], late], garbage=3)
    data.aggregate([*HOUR, *others], input_rows=len(HOUR) + 56, duplicates=50, unreadable=3, late=1)
    data.mark(1)
    results = closed_hour(data)
    assert passed(results) == {"candles": True, "trademsgs1minutewindow": True}
    candles, sides = (values(result) for result in results.values())
    assert candles["hour"] == f"{START:%Y-%m-%d %H:%M} to {END:%H:%M} UTC"
    told = ("trades_in_topic", "trades_in_table", "late", "unexplained")
    assert [candles[name] for name in told] == [361, 360, 1, 0]
    assert [sides[name] for name in told] == [271, 270, 1, 0]  # a fourth is of unknown side
    assert rows(results["candles"])[0] == {"of": "Coinbase BTC USD", "in_topic": 181, "in_table": 180, "missing": 1}


def test_a_deleted_candle_is_found(filled: Data) -> None:
    filled.delete_candle(BTC, START + timedelta(minutes=30))
    results = closed_hour(filled)
    assert passed(results) == {"candles": False, "trademsgs1minutewindow": True}
    assert values(results["candles"])["unexplained"] == 3
    assert [row["of"] for row in rows(results["candles"]) if row["missing"]] == ["Coinbase BTC USD"]


def test_a_trade_that_counts_twice_is_found_even_where_as_many_wait_for_a_repair(data: Data) -> None:
    twice = msgspec.structs.replace(HOUR[0], id="again")
    data.send(HOUR)
    data.aggregate([*HOUR, twice], input_rows=len(HOUR), late=5)
    data.mark(5)
    results = closed_hour(data)
    assert passed(results) == {"candles": False, "trademsgs1minutewindow": False}
    assert {values(result)["unexplained"] for result in results.values()} == {1}


def test_one_pairs_surplus_does_not_hide_anothers_loss(data: Data) -> None:
    surplus = msgspec.structs.replace(HOUR[0], id="surplus")  # of BTC
    data.send([*HOUR, msgspec.structs.replace(HOUR[1], id="lost")])  # of ETH
    data.aggregate([*HOUR, surplus], input_rows=len(HOUR) + 1)
    assert values(closed_hour(data)["candles"])["unexplained"] == 2


def test_a_changed_count_of_a_side_is_found(filled: Data) -> None:
    table, key = "trademsgs1minutewindow", ("date", *TRADE_WINDOWS.clustering)
    select = f"SELECT * FROM {table} WHERE date = %s AND window_end = %s LIMIT 1"
    row: Any = filled.session.execute(select, (utc_midnight(END), END)).one()
    update = f"UPDATE {table} SET counttxns = %s WHERE {' AND '.join(f'{name} = %s' for name in key)}"
    filled.session.execute(update, (row.counttxns + 1, *(getattr(row, name) for name in key)))
    assert passed(closed_hour(filled)) == {"candles": True, table: False}


def test_a_lost_trade_is_found_and_its_hour_is_marked_unless_it_waits_for_a_repair(data: Data) -> None:
    data.send([*HOUR, a_trade(10_001)])
    data.aggregate(HOUR, input_rows=len(HOUR) + 1)
    assert not any(passed(closed_hour(data)).values())
    assert {(mark.hour, mark.market, mark.trades) for mark in marks(data.session)} == {(START, BTC[0], 0)}
    data.mark(1)
    assert all(passed(closed_hour(data)).values())


def test_trades_that_are_not_committed_do_not_count_yet(filled: Data) -> None:
    filled.send([msgspec.structs.replace(HOUR[0], id="comes in the next batch")])
    assert all(passed(closed_hour(filled)).values())


def test_an_hour_that_kafka_has_cut_into_is_a_warning(data: Data) -> None:
    data.send(HOUR[:20])
    data.delete_records()
    data.send(HOUR[20:])
    data.aggregate(HOUR)
    results = closed_hour(data)
    assert {(result.passed, result.severity) for result in results.values()} == {(False, dg.AssetCheckSeverity.WARN)}
    data.delete_records()
    assert {result.severity for result in closed_hour(data).values()} == {dg.AssetCheckSeverity.WARN}


def test_before_an_hour_is_finished_there_is_nothing_to_find(data: Data) -> None:
    assert all(passed(closed_hour(data)).values())
    data.send(HOUR)
    data.aggregate(HOUR, finished=None)
    assert all(passed(closed_hour(data)).values())
    assert minutes(data).passed


def test_no_minute_is_missing_where_every_pair_traded(filled: Data) -> None:
    result = minutes(filled)
    assert result.passed
    assert rows(result) == []


def test_missing_minutes_are_told_by_pair(filled: Data) -> None:
    for minute in (7, 8, 41):
        filled.delete_candle(ETH, START + timedelta(minutes=minute))
    result = minutes(filled)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    first, last = (f"{START + timedelta(minutes=minute):%H:%M:%S}" for minute in (7, 41))
    assert rows(result) == [{"pair": "Kraken ETH EUR", "missing": 3, "first": first, "last": last}]


def test_a_pair_that_never_traded_is_one_finding(filled: Data) -> None:
    feed = FeedResource(subscriptions=f"{SUBSCRIPTIONS},0~Gemini~BTC~USD,2~Gemini~ETH~USD")
    result: Any = no_missing_minutes(**filled.resources | {"feed": feed})
    assert [(row["pair"], row["missing"]) for row in rows(result)] == [("Gemini BTC USD", 60)]


@pytest.mark.parametrize(
    ("unreadable", "fine", "severity"),
    [
        (1, True, dg.AssetCheckSeverity.WARN),
        (2, False, dg.AssetCheckSeverity.WARN),
        (11, False, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_unreadable_records_are_judged_by_their_share(
    data: Data, unreadable: int, fine: bool, severity: dg.AssetCheckSeverity
) -> None:
    data.aggregate([], input_rows=100, unreadable=unreadable)
    result = check(dead_letter_share, data)
    assert (result.passed, result.severity) == (fine, severity)
    assert values(result) == {
        "share": unreadable / 100,
        "frames": 100,
        "found_in_feed": 0,
        "found_in_topic": unreadable,
    }


def test_trades_that_were_filled_in_count_once_they_are_repaired(data: Data) -> None:
    filled = [(trade, write_trade(trade)) for trade in HOUR if trade.pair == BTC][:30]
    lost = {trade.identity for trade, _ in filled}
    data.send(trade for trade in HOUR if trade.identity not in lost)
    with HistoryProducer(data.kafka, "gap") as producer:
        span = producer.put([*filled, *filled], [], "somewhere", "a venue")
    data.aggregate(HOUR, input_rows=len(HOUR))
    assert not any(passed(closed_hour(data)).values())
    assert span
    place = json.dumps([[topic_id(data.kafka, data.kafka.history_topic), *span]])
    row = HourRow(*BTC, utc_midnight(START), START, 180, 180, 0, 0, 0, REPAIRED, "filled", END, place)
    TableWriter(data.session, data.cassandra).put(HOURS, [row], 1)
    assert all(passed(closed_hour(data)).values())


def test_suspect_hours_of_the_last_day_are_told_but_not_those_that_wait_for_a_trade(data: Data) -> None:
    def hour(back: int, verdict: str, reason: str, missing: str) -> HourRow:
        at = START - timedelta(hours=back)
        return HourRow(
            *BTC, utc_midnight(at), at, 9, 9, 0, 0, 2, verdict, reason, at, "[]", first_number=1, missing=missing
        )

    fine = [
        hour(0, SUSPECT, NOT_AFTER, "[[9,null]]"),
        hour(1, COMPLETE, "", "[]"),
        hour(30, SUSPECT, "2 trades missing: 7 to 8 did not come", "[[7,8]]"),
    ]
    writer = TableWriter(data.session, data.cassandra)
    writer.put(HOURS, fine, 1)
    result: Any = no_suspect_hours(data.resources["cassandra"])
    assert result.passed
    assert (values(result)["hours"], values(result)["pending"]) == (2, 1)
    writer.put(HOURS, [hour(2, SUSPECT, "2 trades missing: 7 to 8 did not come", "[[7,8]]")], 1)
    writer.put(HOURS, [hour(3, SUSPECT, NOT_BEFORE, "[[null,0],[9,null]]")], 1)
    result = no_suspect_hours(data.resources["cassandra"])
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    shown = [record.data for record in result.metadata["suspect_hours"].records]
    assert [(row["hour"], row["pair"], row["gaps"]) for row in shown] == [
        (f"{START - timedelta(hours=back):%Y-%m-%d %H:%M}", "BTC-USD", 2) for back in (2, 3)
    ]


def test_frames_that_the_feed_refused_are_counted_once(data: Data) -> None:
    with TradeProducer(data.kafka) as producer:
        for number in range(25):  # 20 of the feed, and what the aggregation found
            producer.dead_letter(b"no trade", "garbage", None if number < 20 else (data.kafka.topic, 0, number))
    data.aggregate([], input_rows=80, unreadable=5)
    result = check(dead_letter_share, data)
    assert values(result) == {"share": 0.25, "frames": 100, "found_in_feed": 20, "found_in_topic": 5}
    assert not result.passed


def test_of_nothing_no_share_is_unreadable(data: Data) -> None:
    assert check(dead_letter_share, data).passed


def test_trades_that_have_just_come_may_wait(filled: Data) -> None:
    assert values(check(lag, filled)) == {"waiting": 0, "oldest_s": 0, "deleted": 0}
    filled.send(HOUR[:7])
    result = check(lag, filled)
    assert result.passed
    assert values(result)["waiting"] == 7


def test_trades_that_wait_for_long_are_found_until_they_are_committed(filled: Data) -> None:
    filled.send_at(time.time() - 1000, HOUR[0])
    result = check(lag, filled)
    assert not result.passed
    assert 1000 <= values(result)["oldest_s"] < 2000
    filled.aggregate([])
    assert check(lag, filled).passed


def test_without_any_aggregation_all_trades_wait(data: Data) -> None:
    data.send_at(time.time() - 1000, HOUR[0])
    assert not check(lag, data).passed


def test_trades_that_were_deleted_before_they_were_aggregated_are_found(filled: Data) -> None:
    filled.send(HOUR[:7])
    filled.delete_records()
    result = check(lag, filled)
    assert not result.passed
    assert values(result)["deleted"] == 7


def run_all(resources: dict[str, Any]) -> dg.ExecuteInProcessResult:
    """The job, as the schedule runs it."""
    job = defs.resolve_job_def("data_checks")
    with dg.DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(instance=instance, raise_on_error=False, resources=resources)


def test_the_job_runs_every_check(filled: Data) -> None:
    result = run_all(filled.resources)
    found = {(each.asset_key.to_user_string(), each.check_name): each for each in result.get_asset_check_evaluations()}
    assert result.success
    assert set(found) == {
        ("candles", "closed_hour_matches_topic"),
        ("trademsgs1minutewindow", "closed_hour_matches_topic"),
        ("candles", "no_missing_minutes"),
        ("candles", "no_suspect_hours"),
        ("candles", "agrees_with_venue"),
        ("dead_letters_topic", "dead_letter_share"),
        ("trades_topic", "lag"),
    }
    assert [key for key, evaluation in found.items() if not evaluation.passed] == []


@pytest.mark.parametrize("lost", ["kafka", "cassandra"])
def test_what_can_not_be_checked_fails_the_run_and_passes_no_check(data: Data, lost: str) -> None:
    gone: dict[str, Any] = {
        "kafka": KafkaResource(bootstrap_servers=f"127.0.0.1:{free_port()}"),
        "cassandra": CassandraResource(port=free_port()),
    }
    result = run_all(data.resources | {lost: gone[lost]})
    assert not result.success
    # The verdicts are in Cassandra, and can be looked at without Kafka; a simulator has no candles to agree with.
    others = {"agrees_with_venue", *(["no_suspect_hours"] if lost == "kafka" else [])}
    assert {each.check_name for each in result.get_asset_check_evaluations()} == others
    failures: list[Any] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert len(failures) == 6 - len(others)  # one tells of both tables
    for each in failures:
        assert "does not answer; start it with `cryptoflow services up`" in each.user_failure_data.description
