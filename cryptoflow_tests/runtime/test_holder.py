"""Who holds a lease: known by the run, the host and the home, and gone only if that is proven."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cryptoflow.runtime.holder import Holder, _started_ticks

HOME = Path("a home")


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def of(pid: int) -> Holder:
    started = _started_ticks(pid)
    assert started
    return msgspec.structs.replace(Holder.current("run-1", HOME), pid=pid, started_ticks=started)


def test_it_is_told_by_run_host_and_home() -> None:
    holder = msgspec.structs.replace(Holder.current("run-1", HOME), host="a-host")
    assert holder.describe() == f"run-1 on a-host, home {Path.cwd() / HOME}"


def test_this_process_is_there() -> None:
    holder = Holder.current("run-1", HOME)
    assert holder.boot
    assert holder.pid_space.startswith("pid:")
    assert not holder.is_gone()


def test_one_that_was_killed_is_gone_even_before_its_parent_looks(child: "subprocess.Popen[bytes]") -> None:
    holder = of(child.pid)
    assert not holder.is_gone()
    child.kill()
    while not holder.is_gone():  # a zombie: nobody has waited for it
        assert child.returncode is None
    child.wait()
    assert holder.is_gone()


def test_a_pid_that_another_process_has_since_got_is_not_taken_for_it() -> None:
    holder = Holder.current("run-1", HOME)
    assert msgspec.structs.replace(holder, started_ticks=holder.started_ticks - 1).is_gone()


@pytest.mark.parametrize("elsewhere", [{"boot": "another"}, {"pid_space": "pid:[1]"}, {"boot": ""}])
def test_of_another_machine_or_container_nothing_is_proven(
    elsewhere: dict[str, str], child: "subprocess.Popen[bytes]"
) -> None:
    holder = msgspec.structs.replace(of(child.pid), **elsewhere)
    child.kill()
    child.wait()
    assert not holder.is_gone()
