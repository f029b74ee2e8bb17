"""The Spark session: its configuration, what a start that fails says, and that SIGINT stays the program's own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local.processes import free_port
from cryptoflow.settings import SparkSettings
from cryptoflow.spark import workers
from cryptoflow.spark.archive import archive_path
from cryptoflow.spark.session import (
    JVM_GONE,
    first_line,
    scratch_config,
    scratch_folder,
    session_config,
    spark_session,
    ui_address,
)

BEFORE = signal.getsignal(signal.SIGINT)
"""Who has SIGINT when the tests are read, before any session: Python, or nobody in the background of a shell."""

START_AND_END = """
import json, signal, sys
from pathlib import Path
from cryptoflow.errors import CryptoflowError
from cryptoflow.settings import SparkSettings
from cryptoflow.spark.session import spark_session

def mine(signal, frame): pass

signal.signal(signal.SIGINT, mine)
master, port, home, end = sys.argv[1:]
seen = {}
try:
    with spark_session(SparkSettings(master=master, ui_port=int(port)), Path(home), connector=True) as spark:
        seen["inside"] = signal.getsignal(signal.SIGINT) is mine
        seen["python"] = spark.sparkContext.pythonExec
        seen["zone"] = spark.conf.get("spark.sql.session.timeZone")
        spark.read.format("kafka").option("kafka.bootstrap.servers", "127.0.0.1:1").option("subscribe", "x").load()
        seen["worked"] = spark.range(3).repartition(1).count()
        seen["archive"] = ".jsa" in Path(f"/proc/{spark.sparkContext._gateway.proc.pid}/maps").read_text()
        if end == "killed":
            spark.sparkContext._gateway.proc.kill()
            spark.range(1).count()
except CryptoflowError as error:
    seen["error"] = [type(error).__name__, str(error)]
seen["after"] = signal.getsignal(signal.SIGINT) is mine
print(json.dumps(seen))
"""
"""A session in a process of its own, as a run has it."""


def start_and_end(master: str, home: Path, end: str = "stopped") -> dict[str, Any]:
    command = [sys.executable, "-c", START_AND_END, master, str(free_port()), str(home), end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_the_configuration_says_what_the_settings_say(tmp_path: Path) -> None:
    settings = SparkSettings(driver_memory="3g", ui_port=4321, shuffle_partitions=5)
    config = session_config(settings, tmp_path)
    assert config["spark.driver.memory"] == "3g"
    assert config["spark.ui.port"] == "4321"
    assert config["spark.sql.shuffle.partitions"] == "5"
    assert config["spark.sql.session.timeZone"] == "UTC"
    assert config["spark.python.daemon.module"] == workers.__name__
    assert "spark.jars" not in config


def test_only_a_local_session_is_bound_to_this_machine(tmp_path: Path) -> None:
    local = session_config(SparkSettings(master="local[2]"), tmp_path)
    assert local["spark.driver.host"] == local["spark.driver.bindAddress"] == "127.0.0.1"
    assert "spark.driver.host" not in session_config(SparkSettings(master="spark://a-host:7077"), tmp_path)


@pytest.mark.parametrize("env", [{}, {"SPARK_LOCAL_IP": ""}])
def test_the_ui_listens_on_the_loopback_address_only(env: dict[str, str]) -> None:
    assert ui_address(env) == "127.0.0.1"


def test_the_ui_can_be_opened_to_other_machines_and_the_driver_stays_on_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_LOCAL_IP", "0.0.0.0")
    assert ui_address(os.environ) == "0.0.0.0"
    config = session_config(SparkSettings(master="local[2]"), tmp_path)
    assert config["spark.driver.host"] == config["spark.driver.bindAddress"] == "127.0.0.1"


def test_the_connector_comes_with_its_jars(jars_home: Path) -> None:
    config = session_config(SparkSettings(), jars_home, connector=True)
    jars = [Path(jar) for jar in config["spark.jars"].split(",")]
    assert any("spark-sql-kafka" in jar.name for jar in jars)
    assert all(jar.is_file() for jar in jars)


def test_an_archive_that_is_there_is_used(tmp_path: Path) -> None:
    archive = archive_path(tmp_path)
    archive.parent.mkdir()
    archive.touch()
    assert str(archive) in scratch_config(tmp_path, tmp_path)["spark.driver.extraJavaOptions"]


def test_a_path_is_one_word_of_the_options_and_one_folder_whatever_is_in_it(tmp_path: Path) -> None:
    config = scratch_config(tmp_path, Path('/a "b", c\\d'))
    assert config["spark.driver.extraJavaOptions"].endswith(r' "-Djava.io.tmpdir=/a \"b\", c\\d"')
    assert "," not in config["spark.local.dir"]


def test_temporary_files_of_a_killed_jvm_go_with_the_next_start(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert first.is_dir()
        assert second.is_dir()
        left = tmp_path / "tmp" / "spark-left"
        left.mkdir()
        (left / "lock").touch()
        with scratch_folder(tmp_path):
            assert not left.exists()
            assert first.is_dir()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_running_session_leaves_ctrl_c_to_python(spark: SparkSession) -> None:
    assert signal.getsignal(signal.SIGINT) is BEFORE


@pytest.fixture
def odd_home(tmp_path: Path, jars_home: Path) -> Path:
    """A home with blanks, a comma, an umlaut and quotes in its path."""
    home = tmp_path / """Jürgen's "flow", his home"""
    home.mkdir()
    (home / "jars").symlink_to(jars_home / "jars")
    return home


def test_a_session_runs_this_python_wherever_its_home_lies_and_gives_the_signal_handler_back(odd_home: Path) -> None:
    seen = start_and_end("local[1]", odd_home)
    archive = seen.pop("archive")
    assert seen == {"inside": True, "python": sys.executable, "zone": "UTC", "worked": 3, "after": True}
    assert archive == archive_path(odd_home).exists()
    assert list((odd_home / "tmp").iterdir()) == []


def test_a_jvm_that_was_killed_is_told_in_one_sentence(jars_home: Path) -> None:
    seen = start_and_end("local[1]", jars_home, "killed")
    assert seen["error"] == ["AggregationError", JVM_GONE]
    assert seen["after"] is True


def test_a_master_that_does_not_exist_is_told_in_one_sentence(jars_home: Path) -> None:
    seen = start_and_end("nonsense", jars_home)
    (kind, message), after = seen["error"], seen["after"]
    assert kind == "AggregationError"
    assert message.startswith("Spark could not be started on nonsense")
    assert "SPARK_MASTER" in message
    assert "\n" not in message
    assert after is True


def test_without_java_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PrerequisiteError, match="no Java"), spark_session(SparkSettings(), tmp_path):
        pass


def test_the_first_telling_line_of_an_error_out_of_the_jvm_is_its_own() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    text = "An error occurred while calling None.a.b.C.\n: java.lang.IllegalStateException: it is stopped\n\tat a.b"
    assert first_line(ValueError(text)) == "java.lang.IllegalStateException: it is stopped"
