"""Java is found, or its absence told with the way out."""

import re
from pathlib import Path

import pytest

from cryptoflow.errors import PrerequisiteError
from cryptoflow.services.java import FIX, find_java, parse_version


def fake_java(folder: Path, version: str) -> None:
    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)


def test_the_java_of_this_machine_runs() -> None:
    assert find_java().version >= 17


def test_java_home_wins_over_path(tmp_path: Path) -> None:
    fake_java(tmp_path, "21.0.2")
    found = find_java({"JAVA_HOME": str(tmp_path), "PATH": "/usr/bin"})
    assert (found.version, found.executable) == (21, tmp_path / "bin" / "java")


def test_no_java_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(PrerequisiteError, match=re.escape(FIX)):
        find_java({"PATH": ""})


def test_a_java_home_without_java_is_told(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="JAVA_HOME"):
        find_java({"JAVA_HOME": str(tmp_path)})


def test_a_java_that_is_too_old_is_told(tmp_path: Path) -> None:
    fake_java(tmp_path, "11.0.25")
    with pytest.raises(PrerequisiteError, match=r"Java 11 .* too old"):
        find_java({"JAVA_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_431"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("Segmentation fault", None),
    ],
)
def test_the_version_is_the_feature_release(text: str, version: int | None) -> None:
    assert parse_version(text) == version
