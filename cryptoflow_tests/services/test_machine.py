"""A machine without room is told before anything starts."""

from pathlib import Path

import pytest

from cryptoflow.errors import PrerequisiteError
from cryptoflow.services.machine import require_disk, require_memory

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
