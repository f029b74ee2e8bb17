"""Whatever is killed while trades stream: one run of each job streams again within a minute, never two, all exact.

One feed of 2,000 trades/s, on which the kept runs die one death after the other; nothing is done by hand.
"""

from pathlib import Path

import pytest

from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow_tests.orchestration.deaths import DEATHS, JOBS, Death, Outcome, scenario

RATE = 2_000
WITHIN_S = 60.0

Survived = tuple[dict[str, Death], Outcome]


@pytest.fixture(scope="module")
def survived(
    tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str, cassandra_port: int, jars_home: Path
) -> Survived:
    """Each death once, and what was left after them; the tables are exact then."""
    kafka, cassandra = KafkaSettings(bootstrap_servers=kafka_bootstrap), CassandraSettings(port=cassandra_port)
    with scenario(tmp_path_factory.mktemp("deaths"), kafka, cassandra, jars_home, RATE) as streaming:
        deaths = {kind: streaming.die(kind) for kind in DEATHS}
        return deaths, streaming.finish()


@pytest.mark.parametrize("kind", DEATHS)
def test_both_runs_stream_again_within_a_minute(survived: Survived, kind: str) -> None:
    assert survived[0][kind].live_s < WITHIN_S


@pytest.mark.parametrize("kind", [kind for kind in DEATHS if kind != "the daemon"])
def test_a_dead_run_is_ended_in_the_record(survived: Survived, kind: str) -> None:
    ended_s = survived[0][kind].ended_s
    assert ended_s is not None
    assert 0 < ended_s < WITHIN_S


def test_the_death_of_the_daemon_ends_no_run(survived: Survived) -> None:
    assert survived[0]["the daemon"].ended_s is None


@pytest.mark.parametrize("job", JOBS)
def test_there_never_were_two_at_once(survived: Survived, job: str) -> None:
    outcome = survived[1]
    assert outcome.most_workers[job] == outcome.most_started[job] == outcome.most_jvms == 1


def test_no_run_was_launched_in_vain(survived: Survived) -> None:
    assert survived[1].runs == {"ingest": 3, "aggregate": 4}


def test_a_termination_ends_them_cleanly(survived: Survived) -> None:
    assert survived[1].statuses == dict.fromkeys(JOBS, "CANCELED")


def test_every_trade_is_in_its_candles_once_and_none_was_late(survived: Survived) -> None:
    assert survived[1].trades > RATE * 60
    assert survived[1].late == 0
