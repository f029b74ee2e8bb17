"""Runs jobs as users do: by the dagster and cryptoflow commands, in processes of their own. And what they need."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cryptoflow.local import lifecycle
from cryptoflow.local.java import ONE_COMPILER
from cryptoflow.local.processes import Process, free_port
from cryptoflow.local.service import Service

SECRET_KEY = "key-that-nobody-may-see-5d41402abc4b2a76"
"""The API key of runs in tests: no file and no output may hold it."""

TRIGGER_S = 3.0
"""Between two batches of runs in tests: each takes most of a second of a processor, however little is in it."""

RUN_ITSELF = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""`-m` as it is in a terminal: what a background shell starts ignores SIGINT, and so do its children."""


def up(home: Path, jars_home: Path, *services: Service) -> dict[str, Process]:
    """Start the services, for the length of this process at most."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JDK_JAVA_OPTIONS", ONE_COMPILER)
        return lifecycle.up(home, services, tied=True, jars_home=jars_home)


@contextmanager
def running(home: Path, jars_home: Path, *services: Service) -> Iterator[dict[str, Process]]:
    """The services, for the length of the block or of this process."""
    started = up(home, jars_home, *services)
    try:
        yield started
    finally:
        lifecycle.end(started, timeout_s=0)


@dataclass
class Workplace:
    """A folder to run in, with its environment."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def process(self, *command: str, output: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        """Start `python -m COMMAND...`; its output and errors go to a file, or a pipe."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRYPTO")}
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=inherited | self.env,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, timeout_s: float = 240) -> "subprocess.CompletedProcess[str]":
        """`python -m COMMAND...` to its end; its output and errors together."""
        process = self.process(*command)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(command, process.returncode, output)

    def job(self, name: str, ops: Mapping[str, Mapping[str, Any]]) -> "subprocess.CompletedProcess[str]":
        """`dagster job execute` of a job, with config from a file."""
        config = self.folder / f"{name}.json"
        config.write_text(json.dumps({"ops": {op: {"config": dict(given)} for op, given in ops.items()}}))
        return self.run("dagster", "job", "execute", "-m", "cryptoflow.definitions", "-j", name, "-c", str(config))

    def files_holding(self, text: str) -> list[Path]:
        """The files below the folder in which `text` stands."""
        wanted = text.encode()
        found = (path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        return [path for path in found if wanted in path.read_bytes()]


def new_place(folder: Path, jars_home: Path, **env: str) -> Workplace:
    """A folder to run in, with homes of its own, and an environment beside those."""
    home, dagster_home = folder / "home", folder / "dagster"
    for made in (home, dagster_home):
        made.mkdir()
    (home / "jars").symlink_to(jars_home / "jars")
    own = {
        "CRYPTOFLOW_HOME": str(home),
        "DAGSTER_HOME": str(dagster_home),
        "CRYPTOFLOW_TRIGGER": str(TRIGGER_S),
        "SPARK_UI_PORT": str(free_port()),
    }
    return Workplace(folder, own | env)


def services_env(kafka: str, cassandra_port: int) -> dict[str, str]:
    """The environment of a topic and a keyspace that nobody else has, in these services."""
    name = uuid.uuid4().hex
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "KAFKA_TOPIC": f"test-{name}",
        "CASSANDRA_PORT": str(cassandra_port),
        "CASSANDRA_KEYSPACE": f"test_{name}",
    }
