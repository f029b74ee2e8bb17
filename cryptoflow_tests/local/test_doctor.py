"""The doctor tells what is missing, and what fixes it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cryptoflow.cli import app
from cryptoflow.errors import ConfigError, PrerequisiteError
from cryptoflow.feeds.reach import Reached
from cryptoflow.local import doctor
from cryptoflow.local.doctor import Check
from cryptoflow.local.java import FIX
from cryptoflow.local.kafka import kafka_service
from cryptoflow.local.processes import free_port
from cryptoflow.settings import KafkaSettings
from cryptoflow.testing import Simulator, SimulatorConfig


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports of its own, and no settings of whoever runs the tests."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("CASSANDRA_PORT", str(free_port()))
    monkeypatch.setenv("SPARK_UI_PORT", str(free_port()))
    monkeypatch.delenv("CRYPTOCOMPARE_API_KEY", raising=False)
    monkeypatch.delenv("CRYPTOFLOW_SOURCE", raising=False)


@pytest.mark.usefixtures("quiet_machine")
def test_a_machine_that_has_all_passes(tmp_path: Path) -> None:
    checks = doctor.check_all(tmp_path, ui_port=free_port())
    doctor.require(checks)
    assert {check.name for check in checks if not check.ok} - {"clock"} == {
        "jars of kafka",
        "jars of cassandra",
        "jars of spark",
    }
    assert [check.name for check in checks if check.name in ("Kafka", "Cassandra", "Spark UI", "Dagster UI")] == [
        "Kafka",
        "Cassandra",
        "Spark UI",
        "Dagster UI",
    ]


@pytest.mark.usefixtures("quiet_machine")
def test_missing_java_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    checks = doctor.check_all(tmp_path)
    assert FIX in by_name(checks)["Java"].text
    with pytest.raises(PrerequisiteError, match="There is no Java"):
        doctor.require(checks)


@pytest.mark.usefixtures("quiet_machine")
def test_a_setting_that_cant_be_used_is_one_more_thing_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASSANDRA_PORT", "no port")
    assert "CASSANDRA_PORT" in by_name(doctor.check_all(tmp_path))["Kafka and Cassandra"].text


@pytest.mark.usefixtures("quiet_machine")
def test_a_login_without_password_is_one_more_thing_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{listener.getsockname()[1]}")
        assert "KAFKA_PASSWORD" in by_name(doctor.check_all(tmp_path))["Kafka"].text


def test_a_taken_port_of_kafka_is_needed_and_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        check = doctor.service(tmp_path, kafka_service(KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")))
    assert (check.ok, check.needed) == (False, True)
    assert f"Port {port} is taken" in check.text


def test_a_kafka_that_runs_is_fine(tmp_path: Path, kafka_bootstrap: str) -> None:
    check = doctor.service(tmp_path, kafka_service(KafkaSettings(bootstrap_servers=kafka_bootstrap)))
    assert check == Check("Kafka", True, f"up on {kafka_bootstrap}")


def test_an_external_kafka_that_is_silent_is_told(tmp_path: Path) -> None:
    server = f"127.0.0.1:{free_port()}"
    wanted = kafka_service(KafkaSettings(bootstrap_servers=server, security_protocol="SSL"))
    assert not doctor.service(tmp_path, wanted).ok


def test_a_taken_port_of_a_web_page_is_told_but_stops_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check = doctor.ui_port("Spark UI", listener.getsockname()[1], "set SPARK_UI_PORT")
    assert (check.ok, check.needed) == (False, False)
    assert check.text.endswith("set SPARK_UI_PORT.")
    doctor.require([check])


def test_an_old_python_is_told() -> None:
    with pytest.raises(PrerequisiteError, match=r"Python 3\.10\.4 is too old"):
        doctor.python((3, 10, 4))


@pytest.mark.parametrize(
    ("key", "source", "url", "found", "place"),
    [
        (None, None, None, "the simulator", "simulated"),
        ("secret", None, None, "CryptoCompare", "cryptocompare"),
        ("secret", "simulator", None, "the simulator", "simulated"),
        (None, None, "ws://127.0.0.1:1/v2", "ws://127.0.0.1:1/v2", "cryptocompare"),
    ],
)
def test_the_feed_is_told_and_never_its_key(
    monkeypatch: pytest.MonkeyPatch, key: str | None, source: str | None, url: str | None, found: str, place: str
) -> None:
    for name in ("KAFKA_TOPIC", "CASSANDRA_KEYSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CRYPTOCOMPARE_URL", url or "")
    monkeypatch.setenv("CRYPTOCOMPARE_API_KEY", key or "")
    monkeypatch.setenv("CRYPTOFLOW_SOURCE", source or "")
    assert doctor.feed().startswith(found)
    assert f"into the topic {place} and the keyspace {place}" in doctor.feed()
    assert "secret" not in doctor.feed()


def test_cryptocompare_without_a_key_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRYPTOCOMPARE_API_KEY", raising=False)
    monkeypatch.setenv("CRYPTOFLOW_SOURCE", "cryptocompare")
    with pytest.raises(PrerequisiteError, match="set CRYPTOCOMPARE_API_KEY"):
        doctor.feed()


@pytest.fixture
def one_venue_of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Coinbase is there, Kraken refuses connections."""
    with Simulator(SimulatorConfig(venue="coinbase")) as simulator:
        monkeypatch.setenv("COINBASE_URL", simulator.url)
        monkeypatch.setenv("COINBASE_REST_URL", simulator.rest_url)
        monkeypatch.setenv("KRAKEN_URL", f"ws://127.0.0.1:{free_port()}/v2")
        monkeypatch.setenv("KRAKEN_REST_URL", f"http://127.0.0.1:{free_port()}")
        yield


@pytest.mark.usefixtures("one_venue_of_two")
def test_each_venue_of_the_source_is_a_line_for_its_websocket_and_one_for_its_rest() -> None:
    checks = doctor.venues({**os.environ, "CRYPTOFLOW_SOURCE": "coinbase,kraken"})
    assert [(check.name, check.ok, check.needed) for check in checks] == [
        ("Coinbase websocket", True, True),
        ("Coinbase REST", True, False),
        ("Kraken websocket", False, True),
        ("Kraken REST", False, False),
    ]
    assert "KRAKEN_URL" in checks[2].text
    assert "KRAKEN_REST_URL" in checks[3].text
    with pytest.raises(PrerequisiteError, match="refuses the connection"):
        doctor.require(checks)


@pytest.mark.usefixtures("quiet_machine", "one_venue_of_two")
def test_the_command_asks_the_venues_of_its_source_and_exits_by_what_it_finds() -> None:
    found = CliRunner().invoke(app, ["doctor", "--source", "coinbase,kraken"])
    assert found.exit_code == 1
    assert "Kraken websocket" in found.output
    assert "coinbase, kraken, into the topic cryptocompare" in found.output
    found = CliRunner().invoke(app, ["doctor", "--source", "coinbase"])
    assert found.exit_code == 0, found.output
    assert "Coinbase websocket" in found.output


def test_a_venues_clock_that_differs_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "reach_rest", lambda venue, url: Reached(0.1, -61.2))
    monkeypatch.setattr(doctor, "reach_websocket", lambda venue, url: Reached(0.1, None))
    *_, clock = doctor.venues({"CRYPTOFLOW_SOURCE": "kraken"})
    assert (clock.name, clock.ok, clock.needed) == ("Kraken clock", False, False)
    assert "clock is 61 s behind Kraken's" in clock.text


def test_another_source_has_no_venues_to_ask() -> None:
    assert doctor.venues({}) == doctor.venues({"CRYPTOFLOW_SOURCE": "nasdaq"}) == []


def test_a_check_takes_its_text_from_what_was_found_or_missed() -> None:
    def missing() -> str:
        raise ConfigError("It is wrong: set it right.")

    assert doctor.checked("a", lambda: "there") == Check("a", True, "there")
    assert doctor.checked("b", missing) == Check("b", False, "It is wrong: set it right.")


def test_a_clock_that_nobody_keeps_right_is_told_and_stops_nothing() -> None:
    found = {state: doctor.clock(iter([state]).__next__) for state in (0, doctor.UNSYNCHRONIZED, None)}
    assert [check.ok for check in found.values()] == [True, False, True]
    assert not any(check.needed for check in found.values() if not check.ok)
    assert "repairs" in found[doctor.UNSYNCHRONIZED].text
    assert doctor.clock_state() in (None, *range(6))
