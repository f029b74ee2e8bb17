"""Java: where it is, which version it is, and what to do when it is missing or too old."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptoflow.errors import PrerequisiteError

OLDEST = 17
"""Spark 4, Kafka 4 and Cassandra 5 all run on it; Spark 4 runs on nothing older."""

FIX = "apt-get install -y openjdk-17-jre-headless"
"""What installs a right Java on Debian and Ubuntu."""

ONE_COMPILER = "-XX:TieredStopAtLevel=1"
"""For JVMs that live half a minute or less: Java's second compiler would cost more than it gains."""

VERSION_TIMEOUT_S = 60.0

_WAY_OUT = f"install Java 17 or 21 (Debian: `{FIX}`) or set JAVA_HOME to one"


@dataclass(frozen=True)
class Java:
    """A Java that runs."""

    executable: Path
    version: int
    """The feature release: 17, 21, ..."""


def find_java(env: Mapping[str, str] | None = None) -> Java:
    """The Java of JAVA_HOME, else of PATH; `env`: the process's environment by default.

    Raises:
        PrerequisiteError: there is none, it does not run, or it is too old.
    """
    return _checked(_executable(os.environ if env is None else env))


def parse_version(text: str) -> int | None:
    """The feature release in the output of `java -version`, None where there is none."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found[1]) if found else None


def _executable(env: Mapping[str, str]) -> Path:
    if java_home := env.get("JAVA_HOME"):
        executable = Path(java_home, "bin", "java")
        if not os.access(executable, os.X_OK):
            raise PrerequisiteError(f"JAVA_HOME is {java_home}, which holds no bin/java: {_WAY_OUT}.")
        return executable
    found = shutil.which("java", path=env.get("PATH", ""))
    if found is None:
        raise PrerequisiteError(f"There is no Java: {_WAY_OUT}.")
    return Path(found)


@cache
def _checked(executable: Path) -> Java:
    version = parse_version(_version_text(executable))
    if version is None:
        raise PrerequisiteError(f"{executable} does not tell its version: {_WAY_OUT}.")
    if version < OLDEST:
        raise PrerequisiteError(f"Java {version} ({executable}) is too old: {_WAY_OUT}.")
    return Java(executable, version)


def _version_text(executable: Path) -> str:
    # Not in our process group: Ctrl-C would end it before it answers, and be told as a Java that does not run.
    command = (str(executable), "-version")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False, start_new_session=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PrerequisiteError(f"{executable} does not run ({error}): {_WAY_OUT}.") from None
    return done.stderr + done.stdout
