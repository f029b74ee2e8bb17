"""An archive of the classes that Spark loads for our query, so that a session starts in half the time.

The JVM maps it in place of finding, reading and checking some 20,000 classes (its «dynamic class data sharing», in
every JDK since 13). It is made once, by a small run of the query itself, and only good for the same Java and the
same jars; the JVM checks that, and does without it otherwise.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyspark

from cryptoflow.errors import AggregationError
from cryptoflow.local.java import ONE_COMPILER, find_java
from cryptoflow.runtime.locks import exclusive

EXERCISE = 4
"""The number of what `exercise` does: to be raised when the query needs other classes, so that homes make another."""

BUILD_TIMEOUT_S = 300.0
QUIET = "-Xlog:disable -Xlog:all=error:stderr"
"""An archive that does not fit is no more than a slower start, and nothing to warn of."""


def archive_path(home: Path) -> Path:
    """Where the archive of this Java and this Spark is, or will be."""
    return home / "jars" / f"spark-{pyspark.__version__}-java-{find_java().version}-{EXERCISE}.jsa"


def java_options(home: Path) -> str:
    """The JVM's options to use the archive; none where there is no archive."""
    path = archive_path(home)
    return f"{quoted(f'-XX:SharedArchiveFile={path}')} {QUIET}" if path.exists() else ""


def quoted(option: str) -> str:
    """A JVM option as one word in a line of several, for Spark: paths may hold blanks."""
    escaped = option.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def build(home: Path) -> Path:
    """Make the archive, unless it is there.

    Raises:
        AggregationError: the run that makes it failed.
    """
    path = archive_path(home)
    with exclusive(path.with_suffix(".lock")):
        if not path.exists():
            _build(path)
            for other in path.parent.glob("spark-*.jsa"):
                if other != path:
                    other.unlink()
    return path


def _build(path: Path) -> None:
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    environment = os.environ | {"JDK_JAVA_OPTIONS": f"-XX:ArchiveClassesAtExit='{draft}' {ONE_COMPILER} {QUIET}"}
    command = [sys.executable, "-m", "cryptoflow.spark.exercise"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    if done.returncode or not draft.exists():
        raise AggregationError(f"Spark's class archive could not be made: {done.stderr[-500:]}")
    draft.rename(path)
