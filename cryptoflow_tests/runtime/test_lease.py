"""Laws of the lease: it lasts as long as its process, whatever ends that."""

import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import psutil
import pytest

from cryptoflow.errors import PrerequisiteError
from cryptoflow.runtime.lease import (
    alive,
    end_holders,
    end_stalled,
    ended_s,
    gave_up,
    killed,
    lease,
    stalled,
    working_runs,
)
from cryptoflow_tests.leases import WAIT_S, holder


def overdue(home: Path) -> None:
    """Wait until the run is."""
    until_s = time.monotonic() + WAIT_S
    while not stalled(home, "run"):
        assert time.monotonic() < until_s
        time.sleep(0.02)


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


def test_a_holder_whose_child_is_gone_by_then_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = psutil.Process.children

    def and_one_that_vanished(process: psutil.Process, recursive: bool = False) -> list[psutil.Process]:
        with subprocess.Popen(["sleep", "60"]) as other:
            gone = psutil.Process(other.pid)
            other.kill()
        return [gone, *children(process, recursive)]

    monkeypatch.setattr(psutil.Process, "children", and_one_that_vanished)
    with holder(tmp_path, "run") as process:
        end_holders(tmp_path, "run")
        assert process.wait(WAIT_S) < 0


def test_nobody_is_ended_for_a_pid_that_another_process_has_since_got(tmp_path: Path) -> None:
    with holder(tmp_path, "run") as process:
        [path] = tmp_path.glob("runs/run/*.lease")
        path.write_text(path.read_text().replace('"created_s":', '"created_s":1'))
        end_holders(tmp_path, "run")
        assert process.poll() is None


def test_a_holder_that_keeps_its_promises_is_left_alone(tmp_path: Path) -> None:
    with holder(tmp_path, "run", within_s=WAIT_S) as process:
        assert not stalled(tmp_path, "run")
        end_stalled(tmp_path, "run", margin_s=0, wait_s=0)
        assert process.poll() is None
        assert alive(tmp_path, "run")


def test_a_holder_that_has_promised_nothing_may_take_as_long_as_it_likes(tmp_path: Path) -> None:
    with lease(tmp_path, "run", "part"):
        assert not stalled(tmp_path, "run", margin_s=-1e9)


def test_a_process_that_was_stopped_is_ended_once_it_is_overdue_and_that_is_known(tmp_path: Path) -> None:
    with holder(tmp_path, "run", within_s=0.3) as process:
        process.send_signal(signal.SIGSTOP)
        end_stalled(tmp_path, "run", margin_s=WAIT_S, wait_s=0)
        assert process.poll() is None
        overdue(tmp_path)
        end_stalled(tmp_path, "run", margin_s=0, wait_s=0)
        assert process.wait(WAIT_S) < 0
        assert (alive(tmp_path, "run"), killed(tmp_path, "run"), gave_up(tmp_path, "run")) == (False, True, True)
        end_stalled(tmp_path, "run", margin_s=0, wait_s=0)  # nobody is left


def test_a_process_that_goes_on_when_it_is_looked_at_once_more_is_left_alone(tmp_path: Path) -> None:
    with holder(tmp_path, "run", within_s=0.3) as process:
        process.send_signal(signal.SIGSTOP)
        overdue(tmp_path)
        awake = threading.Timer(0.3, process.send_signal, [signal.SIGCONT])
        awake.start()
        end_stalled(tmp_path, "run", margin_s=0, wait_s=WAIT_S)
        awake.join()
        assert process.poll() is None
        assert not gave_up(tmp_path, "run")


def test_only_the_part_that_hangs_is_ended(tmp_path: Path) -> None:
    with holder(tmp_path, "run", within_s=0.3) as process, lease(tmp_path, "run", "other") as other:
        other.promise(WAIT_S)
        process.send_signal(signal.SIGSTOP)
        overdue(tmp_path)
        end_stalled(tmp_path, "run", margin_s=0, wait_s=0)
        assert process.wait(WAIT_S) < 0
        assert alive(tmp_path, "run")


def test_one_that_was_merely_killed_has_not_given_up(tmp_path: Path) -> None:
    with holder(tmp_path, "run", within_s=0.3) as process:
        process.kill()
        process.wait(WAIT_S)
        assert killed(tmp_path, "run")
        assert not gave_up(tmp_path, "run")


def test_nobody_is_overdue_by_the_clock_of_another_machine(tmp_path: Path) -> None:
    with lease(tmp_path, "run", "part") as held:
        held.promise(1)
        assert stalled(tmp_path, "run", margin_s=-2)
        [path] = tmp_path.glob("runs/run/*.lease")
        path.write_text(re.sub('"boot_id":"[^"]*"', '"boot_id":"another"', path.read_text()))
        assert not stalled(tmp_path, "run", margin_s=-2)


def test_a_promise_after_the_end_is_heard_by_nobody(tmp_path: Path) -> None:
    with lease(tmp_path, "run", "part") as held:
        held.promise(1)
    held.promise(1)
    assert not killed(tmp_path, "run")


def test_a_home_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PrerequisiteError, match="can't be written"), lease(tmp_path / "file", "run", "part"):
        pass
