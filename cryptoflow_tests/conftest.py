"""The real services of a test session: one set for all of its workers, gone with the session.

Where there is one process only, each is started when a test first asks for it.
"""

import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import filterfalse
from pathlib import Path

import hypothesis
import pytest
from cassandra.cluster import Session
from pyspark.sql import SparkSession
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

with warnings.catch_warnings():
    # kafka-python reads its message formats by functions of importlib.resources that Python 3.11 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401
from cryptoflow.local.cassandra import cassandra_service
from cryptoflow.local.java import ONE_COMPILER
from cryptoflow.local.kafka import kafka_service
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK, Service
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.spark.session import spark_session
from cryptoflow_tests.repairing import World, tables, world_in
from cryptoflow_tests.running import SECRET_KEY, Workplace, new_place, running, services_env

REPOSITORY = Path(__file__).resolve().parents[1]
JARS_HOME = REPOSITORY / ".cryptoflow"

SHARED_HOME, SHARED_KAFKA, SHARED_CASSANDRA = "TEST_SERVICES_HOME", "TEST_KAFKA", "TEST_CASSANDRA_PORT"
"""Environment variables by which the workers know the services of their session."""

LONGEST = (
    "orchestration/test_endings.py",
    "pipeline/test_aggregate.py",
    "orchestration/test_deaths.py",
    "cli/test_run.py",
    "browser",
    "pipeline/test_kafka_mode.py",
    "orchestration/test_machines.py",
    "pipeline/test_repair.py",
    "defs/test_history_backfill.py",
    "test_ci_recipe.py",
    "test_wheel.py",
    "defs/test_backfill.py",
    "web/test_outage.py",
    "pipeline",
    "spark",
    "local",
)
"""Files and folders whose tests take longest: they begin first, so that the workers of a session end together.

Those that mostly wait stand between those that mostly compute: beside each other they leave no processor idle.
"""

TOGETHER = ("browser/test_ui",)
"""Begins of the names of files that one worker takes: they share a `dagster dev` and a window."""

MEASURED = "measured"
"""The property of a test's report that holds a measurement."""

HEAVY_FIXTURES = {"spark", "kafka_bootstrap", "cassandra_port", "services_home", "jars_home"}
"""Whoever asks for one of these, by whatever way, needs a service or a JVM."""

HEAVY = (
    "test_site.py",
    "monitoring",
    "orchestration",
    "browser",
    "local",
    "test_wheel.py",
    "test_ci_recipe.py",
    "test_definitions.py",
    "test_launch.py",
    "test_filler.py",
    "test_history.py",
    "test_connection.py",
    "test_main.py",
    "test_run.py",
    "test_services.py",
    "test_simulate.py",
    "test_chart.py",
    "spark/test_session.py",
)
"""Files and folders that start programs, or wait for what does not answer: together most of the time of the rest."""

FAST_EXAMPLES = 15
"""Of each property in `make test-fast`: what an edit breaks, few examples show. The whole run takes hypothesis' 100."""

# a busy machine must not fail a law: no deadline
hypothesis.settings.register_profile("whole", deadline=None)
hypothesis.settings.register_profile("fast", deadline=None, max_examples=FAST_EXAMPLES)

os.environ.setdefault("SPARK_SUBMIT_OPTS", ONE_COMPILER)
os.environ.setdefault("KAFKA_PRODUCER", "kafka-python")  # what runs of most users take; the tests of kafka_io take both
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of many processes compiles the package anew


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of `make test-fast`."""
    parser.addoption("--fast", action="store_true", help="only tests that need no service and no JVM")


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples a property takes; start the services of all workers, where there are several."""
    hypothesis.settings.load_profile("fast" if config.option.fast else "whole")
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None) or config.option.fast:
        return
    kafka, cassandra = _kafka(), _cassandra()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cryptoflow-services-"))
        stack.enter_context(running(Path(folder), JARS_HOME, kafka, cassandra))
        config.add_cleanup(stack.pop_all().close)
    os.environ |= {SHARED_HOME: folder, SHARED_KAFKA: kafka.address, SHARED_CASSANDRA: str(cassandra.port)}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import what is not fast, where that is asked for: each worker would take seconds for it."""
    return True if config.option.fast and any(_is_in(collection_path, name) for name in HEAVY) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not fast, where that is asked for. Put the longest first; a file's own order stays."""
    if config.option.fast:
        config.hook.pytest_deselected(items=list(filter(_is_heavy, items)))
        items[:] = filterfalse(_is_heavy, items)

    def rank(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(LONGEST) if _is_in(item.path, name)), len(LONGEST))

    items.sort(key=rank)


class FilesAndFriends(LoadFileScheduling):  # type: ignore[misc] # xdist tells no types
    """Gives each worker a file at a time, or several that belong together."""

    def _split_scope(self, nodeid: str) -> str:
        return next((name for name in TOGETHER if f"/{name}" in nodeid), super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """What hands out the tests, if that is done by files."""
    return FilesAndFriends(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was measured."""
    reports = [each for outcome in ("passed", "failed") for each in terminalreporter.getreports(outcome)]
    for name, value in (found for each in reports for found in each.user_properties):
        if name == MEASURED:
            terminalreporter.write_line(str(value))


def _is_heavy(item: pytest.Item) -> bool:
    return not HEAVY_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def _is_in(path: Path, name: str) -> bool:
    """Whether it is this file or folder, or lies in it."""
    return f"/{name}/" in f"/{path.relative_to(REPOSITORY).as_posix()}/"


@pytest.fixture(scope="session")
def jars_home() -> Path:
    """The home whose jars the tests use: the repository's own, so that they are fetched once."""
    return JARS_HOME


@pytest.fixture(scope="session")
def services_home() -> Iterator[Path]:
    """The folder of the session's services; it goes away with the session."""
    if shared := os.environ.get(SHARED_HOME):
        yield Path(shared)
        return
    with tempfile.TemporaryDirectory(prefix="cryptoflow-services-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def kafka_bootstrap(services_home: Path, jars_home: Path) -> Iterator[str]:
    """HOST:PORT of the session's Kafka."""
    if shared := os.environ.get(SHARED_KAFKA):
        yield shared
        return
    service = _kafka()
    with running(services_home, jars_home, service):
        yield service.address


@pytest.fixture(scope="session")
def cassandra_port(services_home: Path, jars_home: Path) -> Iterator[int]:
    """The CQL port of the session's Cassandra, on 127.0.0.1."""
    if shared := os.environ.get(SHARED_CASSANDRA):
        yield int(shared)
        return
    service = _cassandra()
    with running(services_home, jars_home, service):
        yield service.port


@pytest.fixture(scope="session")
def spark(jars_home: Path) -> Iterator[SparkSession]:
    """A Spark session, the one of this process."""
    with spark_session(SparkSettings(ui_port=free_port(), driver_memory="1g"), jars_home, connector=True) as session:
        yield session


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells at the end of the session what was measured."""
    return lambda measured: record_property(MEASURED, measured)


@pytest.fixture
def topic() -> str:
    """A topic name that no other test has; the topic is not made yet."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def keyspace() -> str:
    """A keyspace name that no other test has; the keyspace is not made yet."""
    return f"test_{uuid.uuid4().hex}"


@pytest.fixture
def place(tmp_path: Path, jars_home: Path, kafka_bootstrap: str, cassandra_port: int) -> Workplace:
    """A folder with the tests' services in its environment."""
    services = services_env(kafka_bootstrap, cassandra_port)
    return new_place(tmp_path, jars_home, CRYPTOCOMPARE_API_KEY=SECRET_KEY, **services)


@pytest.fixture(scope="session")
def repair_tables(cassandra_port: int) -> Iterator[Session]:
    """The tables of all worlds: to make them takes seconds."""
    with tables(CassandraSettings(port=cassandra_port, keyspace=f"test_{uuid.uuid4().hex}")) as made:
        yield made


@pytest.fixture
def world(place: Workplace, repair_tables: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """For tests of repairs: an empty topic and empty tables, which the environment names."""
    place.env["CASSANDRA_KEYSPACE"] = str(repair_tables.keyspace)
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    with world_in(place, repair_tables) as made:
        yield made


@pytest.fixture(scope="session")
def shared() -> Path:
    """The recordings beside the repository, where there are any."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("there is no folder ../shared of recordings")
    return folder


def _kafka() -> Service:
    return kafka_service(KafkaSettings(bootstrap_servers=f"{LOOPBACK}:{free_port()}"))


def _cassandra() -> Service:
    return cassandra_service(CassandraSettings(port=free_port()))
