"""Laws of the lease: it lasts as long as its process, whatever ends that."""

from pathlib import Path

import pytest

from cryptoflow.errors import PrerequisiteError
from cryptoflow.runtime.lease import alive, end_holders, ended_s, killed, lease, working_runs
from cryptoflow_tests.leases import WAIT_S, holder


def test_before_a_part_begins_there_is_no_sign_of_it(tmp_path: Path) -> None:
    assert (alive(tmp_path, "run"), killed(tmp_path, "run"), ended_s(tmp_path, "run")) == (False, False, 0)
    assert working_runs(tmp_path) == []


def test_while_a_part_works_its_run_is_alive(tmp_path: Path) -> None:
    with lease(tmp_path, "run", "part"):
        assert alive(tmp_path, "run")
        assert not killed(tmp_path, "run")
        assert working_runs(tmp_path) == ["run"]


def test_a_part_that_ended_was_not_killed_and_left_the_time_of_its_end(tmp_path: Path) -> None:
    with lease(tmp_path, "run", "part"):
        began_s = ended_s(tmp_path, "run")
    assert not alive(tmp_path, "run")
    assert not killed(tmp_path, "run")
    assert ended_s(tmp_path, "run") >= began_s > 0


def test_a_part_that_failed_was_not_killed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease(tmp_path, "run", "part"):
        raise ZeroDivisionError
    assert not killed(tmp_path, "run")


def test_the_lease_of_another_process_is_seen_until_it_is_killed(tmp_path: Path) -> None:
    with holder(tmp_path, "run") as process:
        assert alive(tmp_path, "run")
        process.kill()
        process.wait(WAIT_S)
        assert not alive(tmp_path, "run")
        assert killed(tmp_path, "run")


def test_a_run_is_alive_while_one_of_its_parts_is(tmp_path: Path) -> None:
    with holder(tmp_path, "run") as process, lease(tmp_path, "run", "other"):
        process.kill()
        process.wait(WAIT_S)
        assert alive(tmp_path, "run")
        assert not killed(tmp_path, "run")
    assert killed(tmp_path, "run")


def test_whoever_still_holds_a_lease_can_be_ended_with_its_children(tmp_path: Path) -> None:
    with holder(tmp_path, "run") as process:
        end_holders(tmp_path, "run")
        assert process.wait(WAIT_S) < 0
        assert process.stdout is not None
        assert process.stdout.read() == ""  # its child held that, too
        assert killed(tmp_path, "run")


def test_nobody_is_ended_for_a_pid_that_another_process_has_since_got(tmp_path: Path) -> None:
    with holder(tmp_path, "run") as process:
        [path] = tmp_path.glob("runs/run/*.lease")
        path.write_text(path.read_text().replace('"created_s":', '"created_s":1'))
        end_holders(tmp_path, "run")
        assert process.poll() is None


def test_a_home_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PrerequisiteError, match="can't be written"), lease(tmp_path / "file", "run", "part"):
        pass
