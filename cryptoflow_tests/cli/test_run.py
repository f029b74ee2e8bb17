"""`cryptoflow run` and the jobs when something is wrong: one clear sentence, a non-zero exit, no secret told."""

import os
import re
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest

from cryptoflow.feeds.source import SIMULATED, destination
from cryptoflow.local.cassandra import DEFAULT_USER, cassandra_service
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK
from cryptoflow.model.trade import kafka_key, read_trade
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.simulator.config import VenueName
from cryptoflow.tables.connection import connect
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow_tests.exactness import cassandra, kafka, read_candles
from cryptoflow_tests.running import SECRET_KEY, Workplace, new_place, running
from cryptoflow_tests.topics import read_topic

SOON = {"timeout_s": 2}


@pytest.fixture
def lonely(tmp_path: Path, jars_home: Path) -> Workplace:
    """A folder to run in without any service."""
    return new_place(tmp_path, jars_home)


@pytest.fixture(scope="module")
def guarded_cassandra_port(jars_home: Path) -> Iterator[int]:
    """The port of a Cassandra that asks for a password."""
    service = cassandra_service(CassandraSettings(port=free_port()), authenticate=True)
    with tempfile.TemporaryDirectory(prefix="cryptoflow-guarded-") as home, running(Path(home), jars_home, service):
        yield service.port


def test_a_wrong_key_ends_the_run_with_the_feeds_own_message(place: Workplace) -> None:
    with Simulator(SimulatorConfig(faults=Faults(api_keys=("another",)))) as simulator:
        place.env["CRYPTOCOMPARE_URL"] = simulator.url
        done = place.run("cryptoflow", "run", "--no-ui", "--timeout", "300")
    assert done.returncode == 1
    assert "UNAUTHORIZED" in done.stdout.splitlines()[-1]
    assert "CRYPTOCOMPARE_API_KEY" in done.stdout.splitlines()[-1]
    assert SECRET_KEY not in done.stdout
    assert place.files_holding(SECRET_KEY) == []


def test_a_refused_subscription_is_reported_and_the_others_go_on(place: Workplace) -> None:
    refused, taken = "0~Nowhere~BTC~USD", "0~Coinbase~BTC~USD"
    with Simulator(SimulatorConfig(rate=200, faults=Faults(refused_subscriptions=(refused,)))) as simulator:
        place.env |= {"CRYPTOCOMPARE_URL": simulator.url, "CRYPTOCOMPARE_SUBSCRIPTIONS": f"{refused},{taken}"}
        done = place.job("ingest", {"ingest_trades": SOON})
    assert done.returncode == 0, done.stdout[-3000:]
    assert any(refused in line and "WARNING" in line for line in done.stdout.splitlines())
    assert "Coinbase" in done.stdout
    assert "refused_subscriptions 1" in done.stdout
    records = read_topic(kafka(place), kafka(place).topic)
    assert {record.key for record in records} == {kafka_key(("Coinbase", "BTC", "USD"))}


def test_candles_of_three_venues_without_a_key_though_one_refuses_at_first(place: Workplace) -> None:
    names: list[VenueName] = ["coinbase", "binance", "kraken"]
    with ExitStack() as stack:
        coinbase, binance, kraken = simulators = [
            stack.enter_context(Simulator(SimulatorConfig(venue=name, rate=50))) for name in names
        ]
        kraken.refuse(3600)
        for name, simulator in zip(names, simulators, strict=True):
            place.env[f"{name.upper()}_URL"] = simulator.url
            place.env[f"{name.upper()}_REST_URL"] = simulator.rest_url
        del place.env["CRYPTOCOMPARE_API_KEY"]
        process = place.process("cryptoflow", "run", "--no-ui", "--source", ",".join(names), "--timeout", "30")
        try:
            for simulator in (coinbase, binance):
                simulator.wait_until(partial(has_sent, simulator, 100), timeout_s=90)
            assert kraken.connects == 0
            kraken.refuse(0)
            output, _ = process.communicate(timeout=180)
        finally:
            process.kill()
    assert process.returncode == 0, output[-3000:]
    with connect(cassandra(place)) as session:
        session.set_keyspace(place.env["CASSANDRA_KEYSPACE"])
        candles = read_candles(session)
    by_pair: Counter[tuple[str, ...]] = Counter()
    for key, row in candles.items():
        by_pair[key[:3]] += row.trades
    wanted = {("Coinbase", "BTC", "USD"), ("Binance", "BTC", "USDT"), ("Kraken", "BTC", "USD")}
    assert by_pair.keys() == wanted
    assert sum(by_pair.values()) == len({read_trade(each.value).identity for each in read_topic(*topic_of(place))})
    assert all(market in output for market, _, _ in wanted)


def has_sent(simulator: Simulator, trades: int) -> bool:
    return simulator.sent.trades > trades


def topic_of(place: Workplace) -> tuple[KafkaSettings, str]:
    return kafka(place), kafka(place).topic


def test_an_unreachable_kafka_is_one_sentence(lonely: Workplace) -> None:
    lonely.env |= {"KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{free_port()}"}
    done = lonely.job("ingest", {"ingest_trades": SOON})
    assert done.returncode == 1
    assert f"Kafka at {lonely.env['KAFKA_BOOTSTRAP_SERVERS']} does not answer" in done.stdout
    assert "cryptoflow services up" in done.stdout


def test_an_unreachable_cassandra_is_one_sentence(place: Workplace) -> None:
    place.env["CASSANDRA_PORT"] = str(free_port())
    done = place.job("kafka_mode", {"ingest_trades": {"timeout_s": 300}, "aggregate_trades": {"timeout_s": 300}})
    assert done.returncode == 1
    assert f"Cassandra at {LOOPBACK}:{place.env['CASSANDRA_PORT']} does not answer" in done.stdout
    assert "cryptoflow services up" in done.stdout


def test_a_wrong_cassandra_password_is_one_sentence_that_does_not_tell_it(
    place: Workplace, guarded_cassandra_port: int
) -> None:
    password = "wrong-password-7d793037a0760186"
    place.env |= {
        "CASSANDRA_PORT": str(guarded_cassandra_port),
        "CASSANDRA_USERNAME": DEFAULT_USER,
        "CASSANDRA_PASSWORD": password,
    }
    done = place.job("aggregate", {"aggregate_trades": SOON})
    assert done.returncode == 1
    assert "CASSANDRA_PASSWORD" in done.stdout
    assert password not in done.stdout
    assert place.files_holding(password) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trigger", "soon"], "CRYPTOFLOW_TRIGGER"),
        (["--timeout", "-1"], "timeout_s"),
        (["--subscriptions", " , "], "CRYPTOFLOW_SUBSCRIPTIONS"),
        (["--source", "nasdaq"], "CRYPTOFLOW_SOURCE"),
    ],
)
def test_a_bad_value_is_one_sentence(lonely: Workplace, options: list[str], sentence: str) -> None:
    done = lonely.run("cryptoflow", "run", "--no-ui", "--mode", "memory", *options)
    assert done.returncode == 1
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("names", "places"),
    [
        ({"KAFKA_TOPIC": "", "CASSANDRA_KEYSPACE": ""}, ("simulated", "simulated")),
        ({"KAFKA_TOPIC": "mine", "CASSANDRA_KEYSPACE": "ours"}, ("mine", "ours")),
    ],
)
def test_a_run_on_the_simulator_says_where_its_trades_go(
    lonely: Workplace, names: dict[str, str], places: tuple[str, str]
) -> None:
    lonely.env |= {"CRYPTOCOMPARE_API_KEY": SECRET_KEY} | names
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        done = lonely.run("cryptoflow", "run", "--source", "simulator", "--ui-port", port)
    assert done.returncode == 1
    assert f"{SIMULATED} {destination(*places)}\n" in done.stdout


def test_a_missing_java_is_one_sentence_with_the_command_that_installs_it(lonely: Workplace) -> None:
    lonely.env |= {"PATH": str(lonely.folder), "JAVA_HOME": ""}
    done = lonely.run("cryptoflow", "run", "--no-ui", "--mode", "memory")
    assert done.returncode == 1
    assert "apt-get install -y openjdk-17-jre-headless" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1


def endless_run(lonely: Workplace) -> "subprocess.Popen[str]":
    """A memory run that streams."""
    process = lonely.process("cryptoflow", "run", "--mode", "memory", "--timeout", "0", "--no-ui")
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(r" trades [1-9]", line):
            return process
    pytest.fail(seen)


def test_ctrl_c_ends_a_run_cleanly(lonely: Workplace) -> None:
    process = endless_run(lonely)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to Spark and its helpers too
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0, rest
    assert "CANCELED" in rest
    assert psutil.wait_procs(family, timeout=30)[1] == []


def test_a_killed_run_leaves_nothing_behind(lonely: Workplace) -> None:
    process = endless_run(lonely)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 2
    process.kill()
    process.communicate(timeout=120)
    assert psutil.wait_procs(family, timeout=120)[1] == []
