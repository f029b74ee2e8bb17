"""Whatever is killed while trades stream: one run of each job streams again, never two at once, and all is exact.

Nothing is done by hand. `python -m benchmarks.deaths` kills more, on a faster feed, and tells the times.
"""

from pathlib import Path

import pytest

from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow_tests.orchestration.deaths import JOBS, Death, Outcome, scenario

RATE = 500
KINDS = ("Spark's JVM", "a truncated checkpoint", "everything")
"""The last kills dagster dev, its daemon, and the workers of both runs at once."""

Survived = tuple[dict[str, Death], Outcome]


@pytest.fixture(scope="module")
def survived(
    tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str, cassandra_port: int, jars_home: Path
) -> Survived:
    """Each death once, and what was left after them; the tables are exact then."""
    kafka, cassandra = KafkaSettings(bootstrap_servers=kafka_bootstrap), CassandraSettings(port=cassandra_port)
    with scenario(tmp_path_factory.mktemp("deaths"), kafka, cassandra, jars_home, RATE) as streaming:
        deaths = {kind: streaming.die(kind) for kind in KINDS}
        return deaths, streaming.finish()


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_run_is_ended_in_the_record_before_all_streams_again(survived: Survived, kind: str) -> None:
    death = survived[0][kind]
    assert death.ended_s is not None
    assert 0 < death.ended_s < death.live_s


@pytest.mark.parametrize("job", JOBS)
def test_there_never_were_two_at_once(survived: Survived, job: str) -> None:
    outcome = survived[1]
    assert outcome.most_workers[job] == outcome.most_started[job] == outcome.most_jvms == 1


def test_a_termination_ends_them_cleanly(survived: Survived) -> None:
    assert survived[1].statuses == dict.fromkeys(JOBS, "CANCELED")


def test_every_trade_is_in_its_candles_once_and_none_was_late(survived: Survived) -> None:
    assert survived[1].trades > RATE * 30
    assert survived[1].late == 0
