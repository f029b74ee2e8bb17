"""The Spark session: one a process, started with this Python and ended with it."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import quote

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PythonException
from pyspark.sql import SparkSession

from cryptoflow.errors import AggregationError
from cryptoflow.local import jars
from cryptoflow.local.java import find_java
from cryptoflow.local.service import LOOPBACK
from cryptoflow.runtime.locks import exclusive, held
from cryptoflow.settings import SparkSettings
from cryptoflow.spark.archive import java_options, quoted

LOGGING = Path(__file__).with_name("log4j2.properties").absolute()
"""What Spark logs."""

WORKERS = "cryptoflow.spark.workers"

UNLIMITED_BYTES = str(2**31 - 1)
"""What Spark takes for no limit. Its 10,000 rows are one all the same, and a frame is small."""

THROUGHPUT_GC = "-XX:+UseParallelGC"
"""A catch-up of two million trades on two cores takes some 7 % less time than with Java's default collector."""

JVM_END_TIMEOUT_S = 120.0
"""The JVM needs its time to end where it writes its class archive; else it is gone at once."""


def session_config(settings: SparkSettings, home: Path, connector: bool = False) -> dict[str, str]:
    """Spark's configuration, by its own names; `connector`: with the jars to talk to Kafka, below a plain `home`."""
    config = {
        "spark.driver.memory": settings.driver_memory,
        "spark.ui.port": str(settings.ui_port),
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.shuffle_partitions),
        # It imports once what each worker needs, which then looks through less of its memory after each task.
        "spark.python.daemon.module": WORKERS,
        # The state of one batch is what the next one reads: keeping 100 old versions only fills the disk.
        "spark.sql.streaming.minBatchesToRetain": "10",
        "spark.sql.streaming.metricsEnabled": "false",
        # A query that was ended while it planned its first batch leaves drafts behind, and Spark would refuse the
        # folder for ever. No other query can have left them: the folder is one query's, and locked.
        "spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart": "false",
        # Without a limit of bytes it does not add up the size of a batch for Python anew with each of its rows.
        "spark.sql.execution.arrow.maxBytesPerBatch": UNLIMITED_BYTES,
        # What goes between the tasks of a batch are packed trades: compressing them takes longer than writing them.
        "spark.shuffle.compress": "false",
        # They tell a broken disk from a broken network, once a read has failed.
        "spark.shuffle.checksum.enabled": "false",
        # They are for stages that run again and find other rows; what is read of a log is always the same.
        "spark.sql.shuffle.orderIndependentChecksum.enabled": "false",
        "spark.sql.shuffle.orderIndependentChecksum.enableFullRetryOnMismatch": "false",
    }
    if _is_local(settings):
        config |= {"spark.driver.host": LOOPBACK, "spark.driver.bindAddress": LOOPBACK}
    if connector:
        config["spark.jars"] = ",".join(map(str, jars.spark_jars(home)))
    return config


JVM_LOOK_S = 0.5
"""How long to look whether the JVM is about to end."""

JVM_GONE = (
    "Spark's JVM ended by itself: it was killed, by a user or for want of memory (see SPARK_DRIVER_MEMORY). "
    "Nothing is lost; start the run again."
)


@contextmanager
def spark_session(settings: SparkSettings, home: Path, connector: bool = False) -> Iterator[SparkSession]:
    """A session, and its JVM, for as long as the block lasts; signal handlers are left as they were.

    A JVM that lived on would give the next session this one's memory and jars.

    Raises:
        PrerequisiteError: there is no Java that Spark runs on.
        AggregationError: the session could not be started.
    """
    find_java()
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    if _is_local(settings):
        os.environ["SPARK_LOCAL_IP"] = ui_address(os.environ)
    # py4j logs each exchange at DEBUG, and an ordinary end as an error.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    builder = SparkSession.builder.appName("cryptoflow").master(settings.master)
    with scratch_folder(home) as scratch, plain_home(home) if connector else nullcontext(home) as plain:
        for key, value in (session_config(settings, plain, connector) | scratch_config(home, scratch)).items():
            builder = builder.config(key, value)
        with _session(builder, settings) as session:
            yield session


def ui_address(env: Mapping[str, str]) -> str:
    """What the Spark UI listens on: SPARK_LOCAL_IP of the environment, say 0.0.0.0 in a container, else loopback only.

    The driver and its parts talk to each other on the loopback address all the same.
    """
    return env.get("SPARK_LOCAL_IP") or LOOPBACK


@contextmanager
def plain_home(home: Path) -> Iterator[Path]:
    """A home with Spark's jars at a path that Spark reads jars from: its own, or that of a copy.

    Spark takes a comma or a blank in a path for its end, however it is written, and a link for what it leads to.
    """
    if quote(str(home)) == str(home):
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="cryptoflow-") as copy:
        shutil.copytree(jars.jar_folder(home, "spark"), jars.jar_folder(Path(copy), "spark"))
        yield Path(copy)


def scratch_config(home: Path, scratch: Path) -> dict[str, str]:
    """Where Spark and its JVM put temporary files, and the JVM's options with that."""
    options = (
        java_options(home),
        THROUGHPUT_GC,
        quoted(f"-Dlog4j2.configurationFile={LOGGING.as_uri()}"),
        quoted(f"-Djava.io.tmpdir={scratch}"),
    )
    # A list of folders, in which nothing stands for a comma within one.
    local = tempfile.gettempdir() if "," in str(scratch) else str(scratch)
    return {"spark.local.dir": local, "spark.driver.extraJavaOptions": " ".join(options).strip()}


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder for temporary files. A JVM that is killed leaves tens of MB there, which go with the next start."""
    folders = home / "tmp"
    folders.mkdir(parents=True, exist_ok=True)
    for folder in folders.glob("spark-*"):
        if not held(folder / "lock"):
            shutil.rmtree(folder, ignore_errors=True)
    made = tempfile.TemporaryDirectory(prefix="spark-", dir=folders, ignore_cleanup_errors=True)
    with made as name, exclusive(Path(name) / "lock"):
        yield Path(name)


@contextmanager
def _session(builder: SparkSession.Builder, settings: SparkSettings) -> Iterator[SparkSession]:
    try:
        # In the main thread SparkContext takes SIGINT over: one that came while it starts would end the run in the
        # middle, and a later one would cancel every job before a drain could end.
        with ThreadPoolExecutor(1, "spark-start") as pool:
            session = pool.submit(builder.getOrCreate).result()
    except Exception as error:
        cause = f"{first_line(error)} (see SPARK_MASTER, SPARK_DRIVER_MEMORY)"
        raise AggregationError(f"Spark could not be started on {settings.master}: {cause}") from error
    try:
        yield session
    except (Py4JError, OSError, AggregationError) as error:
        if _jvm_is_gone():
            raise AggregationError(JVM_GONE) from error
        raise
    finally:
        if not _jvm_is_gone():
            session.stop()
        _end_jvm()


def _is_local(settings: SparkSettings) -> bool:
    return settings.master.startswith("local")


def _jvm_is_gone() -> bool:
    """Whether the JVM has ended; its sockets break a moment before that shows."""
    # PySpark has no public way to the JVM's process, which it never ends itself while Python lives.
    gateway = SparkContext._gateway
    assert gateway is not None
    try:
        gateway.proc.wait(JVM_LOOK_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_jvm() -> None:
    gateway = SparkContext._gateway
    assert gateway is not None
    SparkContext._gateway = SparkContext._jvm = None
    gateway.shutdown()
    gateway.proc.stdin.close()
    try:
        gateway.proc.wait(JVM_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        gateway.proc.kill()
        gateway.proc.wait()


def cause_of(error: BaseException) -> str:
    """What ended a query, and the way out where it is known."""
    if "No space left on device" in str(error):
        return "the disk of CRYPTOFLOW_HOME, which holds its checkpoint, is full. Make room; nothing is lost by it."
    if "dataLoss" in str(error) or "data loss" in str(error) or "failOnDataLoss" in str(error):
        return (
            "Kafka has deleted trades that were not aggregated yet: raise the topic's retention. "
            "The next run goes on without them."
        )
    return first_line(error)


def first_line(error: BaseException) -> str:
    """The first telling line of an error's text, which for one out of the JVM goes on for pages."""
    lines = str(error).strip().splitlines()
    if isinstance(error, PythonException):  # it has the stack of a worker, which ends with CLASS: TEXT
        return lines[-1].partition(": ")[2] or lines[-1]
    telling = (line.removeprefix(": ") for line in lines if not line.startswith("An error occurred while calling"))
    return next(telling, type(error).__name__)
