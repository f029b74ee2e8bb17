"""The registry over a real Kafka and real tables: its figures are theirs, also while one of them is away."""

import io
import signal
import threading
import urllib.request
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_fd_to_metric_families

from cryptoflow.exporter.registry import Sources, registry
from cryptoflow.local.processes import free_port
from cryptoflow.model.verdict import COMPLETE, REPAIRED
from cryptoflow.runtime.lease import lease
from cryptoflow.runtime.metrics import IngestMetrics
from cryptoflow.runtime.status import PartStatus, write_status
from cryptoflow.runtime.stop import Deadline
from cryptoflow_tests.prometheus import promtool, registry_of
from cryptoflow_tests.repairing import HOUR_S, ONE_HOUR, T0, World, moment, some_trades
from cryptoflow_tests.watching import watching

HOUR = moment(T0)
ALL = some_trades(T0, T0 + HOUR_S)
BTC, ETH = {"market": "Coinbase", "pair": "BTC-USD"}, {"market": "Kraken", "pair": "ETH-EUR"}
NOBODY = "127.0.0.1:1"
WAIT_S = 20


def sources(world: World) -> Sources:
    return Sources(world.home, world.kafka, world.cassandra, 60)


def value(of: CollectorRegistry, name: str, **labels: str) -> float | None:
    return of.get_sample_value(f"cryptoflow_{name}", labels)


def comes(of: CollectorRegistry, expected: float, name: str, **labels: str) -> None:
    """Wait until a metric has a value."""
    deadline = Deadline(WAIT_S)
    while value(of, name, **labels) != expected:
        assert not deadline.passed, (name, value(of, name, **labels))
        threading.Event().wait(0.05)


def test_what_waits_what_lags_and_what_was_repaired_is_told_by_pair_and_follows(world: World) -> None:
    late = [trade for trade in ALL[100:110] if trade.market == "Coinbase"]
    in_time = [trade for trade in ALL if trade not in late]
    begins = world.log().ends()
    world.send(in_time)
    world.commit(in_time, HOUR, begins=begins)
    mark = world.mark(late[-1], world.send(late, at_s=T0 + 2 * HOUR_S))
    world.commit([], HOUR, [mark])
    world.send(some_trades(T0 + HOUR_S, T0 + HOUR_S + 60), at_s=T0 + 3 * HOUR_S)
    with registry(sources(world), every_s=0.1) as found:
        assert value(found, "log_records_total") == len(ALL) + 4
        assert value(found, "log_lag_trades") == 4
        assert value(found, "log_dead_letters_total") == 0
        lag_s = value(found, "log_lag_seconds")
        assert lag_s is not None
        assert lag_s > 60 * HOUR_S
        assert value(found, "tables_finished_timestamp_seconds") == T0
        assert value(found, "tables_aggregating") == 0
        assert value(found, "pair_newest_candle_timestamp_seconds", **BTC) == T0 + HOUR_S
        assert (value(found, "pair_waiting_trades", **BTC), value(found, "pair_waiting_trades", **ETH)) == (
            len(late),
            0,
        )
        assert value(found, "pair_repairable_trades", **BTC) == 0
        world.commit([], HOUR + ONE_HOUR)
        comes(found, len(late), "pair_repairable_trades", **BTC)
        world.repair()
        comes(found, 0, "pair_waiting_trades", **BTC)
        comes(found, 1, "verdict_partitions", **BTC, verdict=REPAIRED)
        comes(found, 0, "log_lag_trades")
        repaired_s = value(found, "pair_last_repair_timestamp_seconds", **BTC)
        assert repaired_s == world.hour(HOUR).repaired_at.timestamp()  # type: ignore[union-attr]
        assert value(found, "verdict_partitions", **BTC, verdict=COMPLETE) is None
        promtool("check", "metrics", stdin=generate_latest(found))


def test_a_store_that_is_away_is_told_and_hides_neither_the_runs_nor_the_other_store(world: World) -> None:
    write_status(world.home, "one", "ingest_trades", PartStatus(IngestMetrics(acknowledged=3)))
    world.send(ALL)
    stores: dict[str, Any] = {"kafka": world.kafka, "cassandra": world.cassandra}
    without_kafka = stores | {"kafka": world.kafka.model_copy(update={"bootstrap_servers": NOBODY})}
    without_cassandra = stores | {"cassandra": world.cassandra.model_copy(update={"port": 1})}
    with lease(world.home, "one", "ingest_trades"):
        for away, left in (("kafka", without_kafka), ("cassandra", without_cassandra)):
            with registry(Sources(world.home, window_s=60, **left)) as found:
                assert {store for store in stores if value(found, "store_up", store=store) == 0} == {away}
                assert value(found, "ingest_acknowledged_total", run="one", part="ingest_trades") == 3
                assert value(found, "run_live", part="ingest_trades") == 1
                assert value(found, "log_records_total") == (None if away == "kafka" else len(ALL))


def test_stores_without_a_topic_and_tables_are_up_and_say_nothing(world: World) -> None:
    kafka = world.kafka.model_copy(update={"topic": "never-made"})
    cassandra = world.cassandra.model_copy(update={"keyspace": "never_made"})
    with registry(Sources(world.home / "never-made", kafka, cassandra, 60)) as found:
        names = {sample.name for family in found.collect() for sample in family.samples}
    assert names == {"cryptoflow_store_up", "cryptoflow_run_live", "cryptoflow_run_stalled"}


def test_the_page_serves_the_same_ones(world: World) -> None:
    write_status(world.home, "one", "ingest_trades", PartStatus(IngestMetrics(acknowledged=3)))
    world.send(ALL)
    with lease(world.home, "one", "ingest_trades"):
        with (
            watching(world.kafka, world.cassandra) as page,
            urllib.request.urlopen(f"{page.url}/metrics", timeout=WAIT_S) as answer,
        ):
            told = list(text_fd_to_metric_families(io.TextIOWrapper(answer)))
        with registry(sources(world)) as found:
            assert {family.name for family in told} == {family.name for family in found.collect()}
    of_page = registry_of(told)
    assert value(of_page, "ingest_acknowledged_total", run="one", part="ingest_trades") == 3
    assert value(of_page, "log_records_total") == len(ALL)


def test_the_command_serves_them_until_it_is_told_to_end(world: World) -> None:
    port = free_port()
    command = ("cryptoflow", "metrics", "--port", str(port))
    with world.place.process(*command) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == f"Metrics are at http://127.0.0.1:{port}/metrics, until Ctrl-C.\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_S) as answer:
            assert b'cryptoflow_store_up{store="cassandra"} 1.0\n' in answer.read()
        taken = world.place.run(*command)
        assert (taken.returncode, f"Port {port}, for the metrics, can't be had" in taken.stdout) == (1, True)
        started.send_signal(signal.SIGTERM)
        assert started.wait(WAIT_S) == 0
