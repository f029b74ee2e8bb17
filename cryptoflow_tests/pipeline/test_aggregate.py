"""The aggregation over what is in the topic: nothing lost, nothing twice, whatever was before."""

import itertools
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from cassandra.cluster import Session
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kafka import KafkaProducer

from cryptoflow.errors import AlreadyRunningError, CassandraError, LeaseLostError
from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.candle import candles_of
from cryptoflow.model.trade import Trade, kafka_key, read_trade, write_trade
from cryptoflow.model.window import HOUR
from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.history_marks import PAST
from cryptoflow.pipeline.marking import AHEAD, FINISHED, LATE
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.metrics import AggregateMetrics
from cryptoflow.runtime.stop import Deadline
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.tables import lease, progress, reader
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.ledger import Ledger
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.reader import totals
from cryptoflow.tables.schema import BatchRecord, MarkRow
from cryptoflow.testing import SimulatorConfig, frames
from cryptoflow_tests.exactness import check_longer
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.topics import read_topic
from cryptoflow_tests.truth import Key, true_candles

PAIRS = ("0~Coinbase~BTC~USD", "0~Coinbase~ETH~USD")
START_S = 1_763_900_040
"""The start of a minute."""

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive, as the driver's times are

Aggregate = Callable[..., AggregateMetrics]

pytestmark = pytest.mark.usefixtures("one_spark")


def marks(session: Session) -> list[MarkRow]:
    """Those of trades: finished hours wait for their verdicts, too."""
    return [mark for mark in reader.marks(session) if mark.trades]


def some_frames(count: int, start_s: float, step_s: float = 1.0) -> list[bytes]:
    return list(frames(SimulatorConfig(max_trades=count, start_time_s=start_s, time_step_s=step_s), PAIRS))


@pytest.fixture
def kafka(place: Workplace) -> KafkaSettings:
    settings = KafkaSettings(
        bootstrap_servers=place.env["KAFKA_BOOTSTRAP_SERVERS"],
        topic=place.env["KAFKA_TOPIC"],
        retention_hours=1_000_000,  # records are dated back by months
    )
    make_topics(settings)
    return settings


@pytest.fixture
def cassandra(place: Workplace) -> CassandraSettings:
    return CassandraSettings(port=int(place.env["CASSANDRA_PORT"]), keyspace=place.env["CASSANDRA_KEYSPACE"])


@pytest.fixture
def aggregate_all(place: Workplace, kafka: KafkaSettings, cassandra: CassandraSettings) -> Aggregate:
    """Runs the aggregation until the topic is drained."""

    def run(watermark_s: float = 60.0, stopped: bool = False, **more: Any) -> AggregateMetrics:
        spark = SparkSettings(**{"watermark_s": watermark_s, "trigger_s": 3600} | more)
        context = RunContext(Path(place.env["CRYPTOFLOW_HOME"]), timeout_s=0.01)
        if stopped:
            context.stop.set()
        return aggregate(kafka, cassandra, spark, context)

    return run


def send(kafka: KafkaSettings, records: Sequence[bytes]) -> None:
    """Put records into the topic, as the ingester would, or as somebody who writes garbage into it."""
    with TradeProducer(kafka) as producer:
        for record in records:
            producer.trade(_trade(record), record)
        producer.flush()


def _trade(record: bytes) -> Trade:
    try:
        return read_trade(record)
    except Exception:  # noqa: BLE001 - only its key is needed
        return Trade("Coinbase", "BTC", "USD", "1", "1", 1, 1.0, 1.0, 1.0)


Received = tuple[float, int, Trade]
"""(when it was received in s, into which partition, the trade)."""


def send_received(kafka: KafkaSettings, records: Sequence[Received]) -> None:
    """Put trades into the topic as if they had come at their times."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for time_s, partition, trade in records:
        frame = write_trade(trade)
        producer.send(kafka.topic, frame, kafka_key(trade.pair), partition=partition, timestamp_ms=int(time_s * 1000))
    producer.close()


def on_time(pair: tuple[str, str, str], partition: int, times_s: Sequence[float], first_id: int = 1) -> list[Received]:
    """Trades of a pair, received half a second after they were made."""
    return [
        (
            time_s + 0.5,
            partition,
            Trade(*pair, str(1 + number % 3), str(first_id + number), int(time_s), 1.0, 100.0 + number % 7, 2.5),
        )
        for number, time_s in enumerate(times_s)
    ]


def frames_of(records: Sequence[Received]) -> list[bytes]:
    return [write_trade(trade) for _, _, trade in records]


def stored(cassandra: CassandraSettings) -> dict[Key, Any]:
    with connect(cassandra) as session:
        check_longer(session)
        rows = [row for row in session.execute("SELECT * FROM candles") if row.window_seconds == 60]
        return {(r.market, r.fromcoin, r.tocurrency, round((r.window_start - EPOCH).total_seconds())): r for r in rows}


def check(cassandra: CassandraSettings, records: Sequence[bytes]) -> None:
    truth, found = true_candles(records), stored(cassandra)
    assert found.keys() == truth.keys()
    for key, row in found.items():
        expected = {name: value for name, value in truth[key].items() if name != "sides"}
        assert {name: getattr(row, name) for name in expected} == pytest.approx(expected, rel=1e-12), key


def test_each_record_is_in_a_candle_or_late_or_a_duplicate_or_a_dead_letter(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    # first run:   |----- 20 minutes of trades -----|
    # second run:                                   |--|      its watermark is what the third run judges lateness by
    # third run:   late                         again  |------- on -------->
    before = some_frames(1200, START_S)
    send(kafka, before)
    aggregate_all()
    check(cassandra, before)

    onwards = some_frames(300, START_S + 1200)
    send(kafka, onwards[:5])
    aggregate_all()

    again = before[-20:]
    late = some_frames(7, START_S + 0.5)
    garbage = [b"", b"{", b'{"TYPE":"0","M":"Coinbase"}', b"\xff\xfe", before[0].replace(b'"P":', b'"P":-')]
    send(kafka, [*late, *again, *garbage, *onwards[5:]])
    told = aggregate_all()
    check(cassandra, [*before, *onwards])
    assert told.late == len(late)
    assert told.duplicates == len(again)
    assert told.unreadable == len(garbage)

    with connect(cassandra) as session:
        counted = totals(session)
    in_candles = sum(row.trades for row in stored(cassandra).values())
    assert counted.input_rows == in_candles + counted.late + counted.duplicates + counted.unreadable
    assert counted.input_rows == sum(end_offsets(kafka, kafka.topic).values())

    letters = read_topic(kafka, kafka.dead_letter_topic)
    assert sorted(letter.value or b"" for letter in letters) == sorted(garbage)
    headers = [dict(letter.headers) for letter in letters]
    assert all(header["reason"] and header["source"] == b"aggregate" for header in headers)
    assert {header["topic"] for header in headers} == {kafka.topic.encode()}
    assert len({(header["partition"], header["offset"]) for header in headers}) == len(garbage)


BTC, ETH, SOL = ("Coinbase", "BTC", "USD"), ("Kraken", "ETH", "EUR"), ("Binance", "SOL", "USDT")
HOUR_S, DAY_S = 3600, 86_400

BACKLOG = {"max_batch_trades": 2000, "backlog_trades": 500, "watermark_s": 300}
"""Settings that make a backlog of thousands what one of millions is."""


def test_a_backlog_of_a_day_gives_the_candles_of_all_its_trades(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    #  hours  0                                          21      24
    #  BTC    |xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx|  partition 0, most of it
    #  ETH    |x    x     x     x     x     x     x     x     x |  partition 1
    #  SOL                                                |xxxxx|  partition 1
    records = on_time(BTC, 0, [START_S + number * DAY_S / 5000 for number in range(5000)])
    records += on_time(ETH, 1, [START_S + number * DAY_S / 600 for number in range(600)])
    records += on_time(SOL, 1, [START_S + DAY_S - 3 * HOUR_S + number * 10 for number in range(1080)])
    records.sort(key=lambda record: record[0])
    send_received(kafka, records)
    told = aggregate_all(**BACKLOG)
    check(cassandra, frames_of(records))
    assert (told.late, told.input_rows, told.stream.lag_trades) == (0, len(records), 0)
    assert told.batches > 2
    with connect(cassandra) as session:
        assert marks(session) == []
        asked = [mark for mark in reader.marks(session) if mark.reason == FINISHED]
        first, last = (datetime.fromtimestamp(at_s // HOUR_S * HOUR_S, UTC) for at_s in (START_S, START_S + DAY_S))
        assert [mark.hour for mark in asked] == [first + number * HOUR for number in range((last - first) // HOUR)]
        assert totals(session).input_rows == len(records)

    # The stream goes on where the batches ended, in the middle of a window.
    onwards = on_time(BTC, 0, [START_S + DAY_S + number for number in range(400)], first_id=10_000)
    send_received(kafka, onwards)
    told = aggregate_all(**BACKLOG)
    check(cassandra, frames_of([*records, *onwards]))
    assert (told.late, told.input_rows) == (0, len(onwards))


def test_a_slice_holds_at_least_what_was_committed_before(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    #  minutes   0              15             30   when received
    #  BTC       xxxxxxxxxxxxxxxxx|--- backlog ---|
    #  ETH               xxxxxxxxxxxxxxxxx|         under way for ten minutes, and committed before the backlog came
    before = on_time(BTC, 0, [START_S + number for number in range(901)])
    under_way = on_time(ETH, 1, [START_S + number for number in range(900)])
    before += [(at_s + 600, partition, trade) for at_s, partition, trade in under_way]
    send_received(kafka, before)
    aggregate_all(backlog_trades=100)
    backlog = on_time(BTC, 0, [START_S + 901 + number for number in range(1200)], first_id=1000)
    send_received(kafka, backlog)
    told = aggregate_all(max_batch_trades=500, backlog_trades=100)
    check(cassandra, frames_of([*before, *backlog]))
    assert (told.late, told.input_rows) == (0, 1200)


pairs_of_a_backlog = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.5, 0.9]),  # where in the time the pair begins
        st.integers(50, 400),  # its trades
        st.integers(0, 3),  # its partition
        st.sampled_from([0.0, 2.0, 250.0]),  # how long its trades are under way, in s
    ),
    min_size=1,
    max_size=4,
)


@hypothesis_settings(max_examples=3, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(
    st.integers(1, 30), pairs_of_a_backlog, st.integers(100, 1000), st.integers(1, 3), st.randoms(use_true_random=False)
)
def test_whatever_the_backlog_and_wherever_a_run_dies_no_trade_is_late_that_was_not_late_when_it_came(
    aggregate_all: Aggregate,
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    session: Session,
    hours: int,
    pairs: list[tuple[float, int, int, float]],
    most: int,
    fatal: int,
    rng: random.Random,
) -> None:
    records: list[Received] = []
    for number, (begin, size, partition, delay_s) in enumerate(pairs):
        span_s = hours * HOUR_S
        times_s = sorted(START_S + span_s * rng.uniform(begin, 1) for _ in range(size))
        pair = (f"M{number}", "BTC", "USD")
        records += [
            (at_s + rng.uniform(0, delay_s), place, trade) for at_s, place, trade in on_time(pair, partition, times_s)
        ]
    again = [(at_s + rng.uniform(0, 30), place, trade) for at_s, place, trade in rng.sample(records, len(records) // 9)]
    records = sorted([*records, *again], key=lambda record: record[0])
    anew(kafka, cassandra)
    send_received(kafka, records)
    settings = {"max_batch_trades": most, "backlog_trades": 50, "watermark_s": 300}
    with dying(fatal), suppress(CassandraError):
        aggregate_all(**settings)
    aggregate_all(**settings)
    check(cassandra, frames_of(records))
    counted = totals(session)
    assert (counted.late, counted.duplicates, counted.input_rows) == (0, len(again), len(records))


@contextmanager
def dying(fatal: int) -> Iterator[None]:
    """Have a run die before it writes its progress for that time, if it gets there; the first is where it begins."""
    write, times = progress.write, itertools.count(1)

    def written(*arguments: Any) -> None:
        if next(times) == fatal:
            raise CassandraError("it died before the progress")
        write(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(progress, "write", written)
        yield


def anew(kafka: KafkaSettings, cassandra: CassandraSettings) -> None:
    """An empty topic and empty tables, as if nothing had been before."""
    topic_anew(kafka)
    with connect(cassandra) as session:
        ensure_schema(session, cassandra)
        for table in ("candles", "trademsgs1minutewindow", "progress", "marks", "batches"):
            session.execute(f"TRUNCATE {table}")


def topic_anew(kafka: KafkaSettings) -> None:
    with admin_client(kafka, "to delete topics") as admin:
        admin.delete_topics([kafka.topic])
    make_topics(kafka)


def test_a_run_that_is_stopped_leaves_a_backlog_to_the_next_one_and_drains_what_is_none(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    records = some_frames(1200, START_S)
    send(kafka, records)
    assert aggregate_all(stopped=True, **BACKLOG).input_rows == 0
    assert aggregate_all(stopped=True, backlog_trades=5000).input_rows == len(records)
    check(cassandra, records)


def test_one_trade_far_ahead_makes_nobody_late_and_marks_its_own_hour(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    #  minutes   0     10 | 10      20
    #  BTC       xxxxxxxx | xxxxxxxxx      and one that says it is of minute 65, at minute 10
    first = on_time(BTC, 0, [START_S + number for number in range(600)])
    ahead = on_time(ETH, 1, [START_S + 600 + 55 * 60])
    [(_, partition, trade)] = ahead
    send_received(kafka, [*first, (START_S + 600, partition, trade)])
    told = aggregate_all()
    assert (told.late, told.waiting_trades) == (1, 1)
    onwards = on_time(BTC, 0, [START_S + 600 + number for number in range(600)], first_id=1000)
    send_received(kafka, onwards)
    assert aggregate_all().late == 0
    check(cassandra, frames_of([*first, *onwards]))
    with connect(cassandra) as session:
        [mark] = marks(session)
    assert (mark.market, mark.fromcoin, mark.tocurrency) == ETH
    assert (mark.partition, mark.first_offset, mark.last_offset, mark.trades) == (1, 0, 0, 1)
    assert (mark.topic_id, mark.topic, mark.reason) == (topic_id(kafka), kafka.topic, AHEAD)
    hour_s = (START_S + 600 + 55 * 60) // HOUR_S * HOUR_S
    assert mark.hour == datetime.fromtimestamp(hour_s, UTC)
    assert mark.until == datetime.fromtimestamp(START_S + 600 + 56 * 60, UTC)


def test_a_backlog_with_a_trade_far_ahead_and_one_that_is_late_marks_both(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    records = on_time(BTC, 0, [START_S + number * 10 for number in range(1500)])
    ahead = (START_S + 3000.0, 1, on_time(ETH, 1, [START_S + 3000 + 55 * 60])[0][2])
    late = (START_S + 14_000.0, 1, on_time(SOL, 1, [START_S + 30])[0][2])
    send_received(kafka, [*records, ahead, late])
    told = aggregate_all(**BACKLOG | {"max_batch_trades": 500})
    check(cassandra, frames_of(records))
    assert (told.late, told.waiting_trades, told.input_rows) == (2, 2, len(records) + 2)
    with connect(cassandra) as session:
        found = {mark.market: mark for mark in marks(session)}
    assert {market: (mark.reason, mark.first_offset) for market, mark in found.items()} == {
        "Kraken": (AHEAD, 0),
        "Binance": (LATE, 1),
    }


@pytest.fixture
def session(cassandra: CassandraSettings) -> Iterator[Session]:
    with connect(cassandra) as connected:
        ensure_schema(connected, cassandra)
        yield connected


def elsewhere(run: str) -> Holder:
    """A run on another machine, whose processes can't be seen."""
    return msgspec.structs.replace(Holder.current(run, Path("/another/home")), host="another-host", boot="another")


@contextmanager
def living(held: lease.Lease) -> Iterator[None]:
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.1):
            held.alive()

    thread = threading.Thread(target=live)
    thread.start()
    yield
    over.set()
    thread.join()


def until_free(session: Session) -> None:
    """Wait until the lease of a holder that does not say that it works has run out."""
    deadline = Deadline(30)
    while lease.read(session, lease.AGGREGATE).holder:
        assert not deadline.passed
        time.sleep(0.05)


def test_a_second_aggregation_from_another_home_is_refused(aggregate_all: Aggregate, session: Session) -> None:
    with lease.held(session, lease.AGGREGATE, elsewhere("run-1"), "aggregates", ttl_s=2) as held, living(held):
        told = r"aggregates test-\w+ into test_\w+ already, run-1 on another-host, home /another/home: terminate that"
        with pytest.raises(AlreadyRunningError, match=told):
            aggregate_all()


def test_nothing_that_a_stale_aggregation_writes_stays(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, session: Session
) -> None:
    #  stale   |-- holds --|  stopped  ...........  |writes: older rows, refused progress
    #  other                       |-- holds, writes --|
    records = some_frames(300, START_S)
    send(kafka, records)
    place = Place(60, kafka.topic, topic_id(kafka))
    with lease.held(session, lease.AGGREGATE, elsewhere("run-1"), "aggregates", ttl_s=1) as held:
        held._over.set()  # stopped as by SIGSTOP, it does not renew
        stale = Ledger(session, cassandra, place, held)
        stale.claim()
        held.timestamp()
        until_free(session)
        aggregate_all()
        done = progress.read(session, place)
        assert done is not None
        partial = list(candles_of([read_trade(record) for record in records[:100]], 60).values())
        with pytest.raises(LeaseLostError):
            stale.commit([], partial, BatchRecord("", 1, input_rows=100), msgspec.structs.replace(done, offsets={}))
    check(cassandra, records)
    assert progress.read(session, place) == done
    assert totals(session).input_rows == len(records)


def test_a_topic_made_anew_does_not_write_over_the_candles_of_the_one_before(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, session: Session
) -> None:
    #  before   |---------------|
    #  anew              |again||--- on --->
    before = some_frames(600, START_S)
    send(kafka, before)
    aggregate_all()
    topic_anew(kafka)
    newest = datetime.fromtimestamp(START_S + 600, UTC)
    onwards = some_frames(200, START_S + 600)
    send(kafka, [*before[-20:], *onwards])
    told = aggregate_all()
    check(cassandra, [*before, *onwards])
    assert (told.late, told.waiting_trades) == (20, 20)
    found = marks(session)
    assert sum(mark.trades for mark in found) == 20
    assert {(mark.topic_id, mark.reason) for mark in found} == {(topic_id(kafka), LATE)}
    assert all(mark.until <= newest for mark in found)
    # The next run goes on like any other.
    send(kafka, some_frames(60, START_S + 800))
    assert aggregate_all().late == 0


def test_an_older_aggregate_never_wins_whatever_the_clock_says(
    aggregate_all: Aggregate,
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = some_frames(90, START_S)
    for number, ahead_s in enumerate((HOUR_S, -HOUR_S, 0)):
        clock = SimpleNamespace(
            time_ns=lambda ahead_s=ahead_s: time.time_ns() + ahead_s * 10**9,
            monotonic=time.monotonic,
            sleep=time.sleep,
        )
        monkeypatch.setattr(lease, "time", clock)
        send(kafka, records[number * 30 : number * 30 + 30])
        aggregate_all()
        check(cassandra, records[: number * 30 + 30])


Damage = Callable[[Path], object]


def newest(folder: Path) -> Path:
    return max((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


DAMAGES: dict[str, Damage] = {
    "gone": shutil.rmtree,
    "commit empty": lambda checkpoint: newest(checkpoint / "commits").write_bytes(b""),
    "start empty": lambda checkpoint: (checkpoint / "start.json").write_bytes(b""),
    "metadata empty": lambda checkpoint: (checkpoint / "metadata").write_bytes(b""),
    "state empty": lambda checkpoint: [
        path.write_bytes(b"") for path in (checkpoint / "state").rglob("*") if path.is_file()
    ],
}


def test_whatever_became_of_the_checkpoint_the_next_run_is_exact_by_itself(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, place: Workplace
) -> None:
    records = some_frames(100, START_S)
    send(kafka, records)
    aggregate_all()
    for name, damage in DAMAGES.items():
        damage(the_checkpoint(place))
        more = some_frames(50, START_S + len(records))
        records += more
        # The last ones come again: only a state that is whole knows them.
        send(kafka, [*more, *records[-60:-50]])
        told = aggregate_all()
        check(cassandra, records)
        assert (told.late, told.duplicates, told.input_rows) == (0, 10, 60), name


def the_checkpoint(place: Workplace) -> Path:
    [checkpoint] = (Path(place.env["CRYPTOFLOW_HOME"]) / "checkpoints").glob("*/*")
    return checkpoint


def test_a_checkpoint_that_comes_back_old_is_not_gone_back_to(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, place: Workplace, tmp_path: Path
) -> None:
    parts = [some_frames(60, START_S + 60 * number + 30) for number in range(3)]
    send(kafka, parts[0])
    aggregate_all()
    checkpoint = the_checkpoint(place)
    old = shutil.copytree(checkpoint, tmp_path / "old")
    send(kafka, parts[1])
    aggregate_all()
    shutil.rmtree(checkpoint)
    shutil.copytree(old, checkpoint)
    send(kafka, parts[2])
    told = aggregate_all()
    check(cassandra, [record for part in parts for record in part])
    assert (told.late, told.input_rows) == (0, 60)


def test_a_batch_that_spark_did_not_come_to_note_counts_once_and_is_written_no_more(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, place: Workplace, session: Session
) -> None:
    records = some_frames(100, START_S)
    send(kafka, records)
    aggregate_all()
    commit = newest(the_checkpoint(place) / "commits")
    for path in (commit, commit.with_name(f".{commit.name}.crc")):
        path.unlink()
    told = aggregate_all()
    check(cassandra, records)
    assert (told.batches, told.input_rows, told.rows_written) == (0, 0, 0)
    assert newest(the_checkpoint(place) / "commits") == commit
    assert totals(session).input_rows == len(records)


def test_the_hours_of_a_first_batch_get_their_verdicts_though_the_run_ended_after_it(
    aggregate_all: Aggregate, kafka: KafkaSettings, session: Session
) -> None:
    hour_s = START_S // DAY_S * DAY_S - HOUR_S  # the first one is of the day before
    send(kafka, [*some_frames(1, hour_s), *some_frames(1, hour_s + 2 * HOUR_S + 60)])
    aggregate_all()
    send(kafka, some_frames(1, hour_s + 2 * HOUR_S + 61))
    aggregate_all()
    asked = [mark.hour for mark in reader.marks(session) if mark.reason == FINISHED]
    assert asked == [datetime.fromtimestamp(hour_s + number * HOUR_S, UTC) for number in range(2)]


def test_a_setting_that_is_changed_and_taken_back_leaves_no_window_half_counted_and_does_not_rewind(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, place: Workplace, session: Session
) -> None:
    records: list[bytes] = []
    for watermark_s, count in ((60, 630), (90, 300), (60, 45)):  # each ends in the middle of a window
        more = some_frames(count, START_S + len(records))
        records += more
        send(kafka, more)
        told = aggregate_all(watermark_s=watermark_s)
        check(cassandra, records)
        assert (told.late, told.input_rows) == (0, count)
        the_checkpoint(place)
    assert totals(session).input_rows == len(records)


def test_a_stream_goes_on_with_another_number_of_partitions_and_no_window_is_half_counted(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    records: list[bytes] = []
    for partitions, count in ((1, 90), (3, 50)):  # each ends in the middle of a window
        more = some_frames(count, START_S + len(records))
        records += more
        send(kafka, [*more, *more[-5:]])
        told = aggregate_all(shuffle_partitions=partitions)
        check(cassandra, records)
        assert (told.late, told.duplicates, told.input_rows) == (0, 5, count + 5)


def test_a_batch_that_was_interrupted_counts_once_and_has_marked_what_is_late(
    aggregate_all: Aggregate,
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = some_frames(600, START_S)
    send(kafka, before)
    aggregate_all()
    send(kafka, some_frames(5, START_S + 600))
    aggregate_all()
    late, onwards = some_frames(7, START_S + 0.5), some_frames(95, START_S + 605)

    write = progress.write

    def broken(session: Session, place: Place, fence: int, done: Progress) -> None:
        if sum(done.offsets.values()) == 707:  # an empty batch may come first, to move the watermark
            raise CassandraError("it died before the progress")
        write(session, place, fence, done)

    send(kafka, [*late, *onwards])
    with monkeypatch.context() as patched:
        patched.setattr(progress, "write", broken)
        with pytest.raises(CassandraError, match="before the progress"):
            aggregate_all()
    assert sum(mark.trades for mark in marks(session)) == len(late)
    told = aggregate_all()
    check(cassandra, [*before, *some_frames(5, START_S + 600), *onwards])
    assert (told.late, told.input_rows) == (7, 102)
    assert sum(mark.trades for mark in marks(session)) == len(late)
    counted = totals(session)
    assert (counted.input_rows, counted.late) == (707, 7)


def test_late_trades_mark_their_hour_with_where_they_lie_and_those_after_it_that_have_no_verdict(
    aggregate_all: Aggregate, kafka: KafkaSettings, session: Session
) -> None:
    # A batch takes for late what was so when the batch before it began.
    for first, count in ((0, 100), (100, 100)):
        times_s = [START_S + 2 * HOUR_S + number for number in range(first, first + count)]
        send_received(kafka, on_time(BTC, 0, times_s, first_id=1 + first))
        aggregate_all()
    late = on_time(BTC, 0, [START_S + 600 * number for number in (-12, 0, 1, 5)], first_id=1000)
    between = on_time(BTC, 0, [START_S + 2 * HOUR_S + 200], first_id=2000)
    received_s = START_S + 2 * HOUR_S + 201
    send_received(kafka, [(received_s, place, trade) for _, place, trade in [*late[:2], *between, *late[2:]]])
    told = aggregate_all()
    assert (told.late, told.waiting_trades) == (4, 4)
    hour = datetime.fromtimestamp(START_S // HOUR_S * HOUR_S, UTC)
    by_hour: dict[datetime, list[tuple[int, datetime]]] = {}
    for at, (_, _, trade) in zip((200, 201, 203, 204), late, strict=True):
        made = datetime.fromtimestamp(trade.time_s, UTC)
        by_hour.setdefault(made.replace(minute=0, second=0), []).append((at, made))
    found = {mark.hour: mark for mark in marks(session)}
    assert hour in found
    assert {each: (mark.first_offset, mark.last_offset, mark.trades, mark.until) for each, mark in found.items()} == {
        each: (places[0][0], places[-1][0], len(places), max(made for _, made in places) + timedelta(minutes=1))
        for each, places in by_hour.items()
    }
    asked = [mark.hour for mark in reader.marks(session) if (mark.market, mark.reason) == ("Coinbase", FINISHED)]
    assert asked == [hour - HOUR]


def test_dropped_tables_are_filled_again_from_kafka(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    records = some_frames(200, START_S)
    send(kafka, records)
    aggregate_all()
    with connect(cassandra) as session:
        session.execute(f"DROP KEYSPACE {cassandra.keyspace}")
    aggregate_all()
    check(cassandra, records)


def test_dropped_candles_alone_are_filled_again_too(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, session: Session
) -> None:
    records = some_frames(200, START_S)
    send(kafka, records)
    aggregate_all()
    session.execute("DROP TABLE candles")
    session.execute("DROP TABLE trademsgs1minutewindow")
    aggregate_all()
    check(cassandra, records)


def test_records_are_keyed_by_their_pair(kafka: KafkaSettings) -> None:
    records = some_frames(50, START_S)
    send(kafka, records)
    found = read_topic(kafka, kafka.topic)
    assert {(record.key, record.value) for record in found} == {
        (kafka_key(read_trade(record).pair), record) for record in records
    }
    by_key = {record.key: record.partition for record in found}
    assert all(by_key[record.key] == record.partition for record in found)


def test_trades_of_the_past_are_in_no_batch_and_mark_their_hours(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, session: Session
) -> None:
    live, past = some_frames(100, START_S), some_frames(30, START_S - HOUR_S)
    send(kafka, live)
    with HistoryProducer(kafka, "gap") as producer:
        producer.put([(read_trade(frame), frame) for frame in past], (), "somewhere", "a venue")
    told = aggregate_all()
    check(cassandra, live)
    assert (told.late, told.input_rows, told.waiting_trades) == (0, len(live), len(past))
    found = marks(session)
    assert {(mark.topic_id, mark.reason) for mark in found} == {(topic_id(kafka, kafka.history_topic), PAST)}
    assert sum(mark.trades for mark in found) == len(past)
    # The next run goes on behind them.
    session.execute("TRUNCATE marks")
    aggregate_all()
    assert marks(session) == []
