"""Java is found, or its absence told with the way out."""

import re
import sys
from pathlib import Path

import pytest

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local.java import FIX, find_java, parse_version


def fake_java(folder: Path, version: str, unless: str = "False") -> None:
    """A program that tells a version as Java does, unless a Python expression holds."""
    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!{sys.executable}\nimport os\n({unless}) or print('openjdk version \"{version}\"')\n")
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


def test_ctrl_c_reaches_only_the_program_and_not_the_java_that_it_asks(tmp_path: Path) -> None:
    fake_java(tmp_path, "17.0.1", unless="os.getpgrp() == os.getpgid(os.getppid())")
    assert find_java({"JAVA_HOME": str(tmp_path)}).version == 17


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
