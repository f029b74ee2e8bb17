"""A machine without room is told before anything starts, and whatever fails for it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local.machine import full_disk_told, require_disk, require_memory

TOO_MUCH_BYTES = 2**60


def test_room_is_measured_where_the_home_will_be(tmp_path: Path) -> None:
    assert require_disk(tmp_path / "not" / "yet", needed_bytes=1) > 0
    assert require_memory(needed_bytes=1) > 0


def test_too_little_disk_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="make room there, or set CRYPTOFLOW_HOME"):
        require_disk(tmp_path, TOO_MUCH_BYTES)


def test_too_little_memory_is_told_with_the_way_out() -> None:
    with pytest.raises(PrerequisiteError, match="end other programs"):
        require_memory(TOO_MUCH_BYTES)


def test_what_fails_on_a_full_disk_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="is full: make room there"), full_disk_told(tmp_path, TOO_MUCH_BYTES):
        raise KeyError


def fail_after_a_look(home: Path) -> None:
    with full_disk_told(home) as look:
        look()
        raise KeyError


def test_a_disk_that_was_full_is_told_though_what_failed_has_left_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_bytes = iter([0, TOO_MUCH_BYTES])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=next(free_bytes, TOO_MUCH_BYTES)))
    with pytest.raises(PrerequisiteError, match="is full: make room there"):
        fail_after_a_look(tmp_path)


def test_what_fails_for_another_reason_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError), full_disk_told(tmp_path):
        raise KeyError
