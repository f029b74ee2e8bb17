"""The laws of a pace that many keep."""

import math
import multiprocessing
import threading
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.runtime.pace import LONGEST_S, Pace


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now_s


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=2, max_size=30))
def test_turns_come_no_closer_than_the_interval_whoever_takes_them(steps: list[tuple[float, bool]]) -> None:
    clock, turns_s = Clock(), []
    with TemporaryDirectory() as folder:
        takers = [Pace(Path(folder) / "x", 1.0, clock) for _ in range(2)]
        for passed_s, which in steps:
            clock.now_s += passed_s
            turns_s.append(clock.now_s + takers[which].reserve())
    assert all(later - earlier > 1.0 - 1e-5 for earlier, later in pairwise(turns_s))


def test_a_turn_that_nobody_has_wanted_is_not_saved_up(tmp_path: Path) -> None:
    clock = Clock()
    pace = Pace(tmp_path / "x", 1.0, clock)
    assert pace.reserve() == 0
    clock.now_s += 100
    assert [round(pace.reserve(), 3) for _ in range(3)] == [0, 1, 2]


def test_what_is_postponed_is_so_for_all(tmp_path: Path) -> None:
    clock = Clock()
    Pace(tmp_path / "x", 1.0, clock).postpone(30)
    Pace(tmp_path / "x", 1.0, clock).postpone(10)
    assert round(Pace(tmp_path / "x", 1.0, clock).reserve(), 3) == 30
    Pace(tmp_path / "x", 1.0, clock).postpone(math.inf)
    assert round(Pace(tmp_path / "x", 1.0, clock).reserve(), 3) == LONGEST_S


def test_a_file_that_rots_or_a_clock_that_was_set_back_stops_nobody_for_long(tmp_path: Path) -> None:
    clock = Clock()
    pace = Pace(tmp_path / "x", 1.0, clock)
    for rot in (b"\x00\xff nonsense", b"nan", b"inf", b""):
        (tmp_path / "x").write_bytes(rot)
        assert pace.reserve() == 0
    clock.now_s -= 10 * LONGEST_S
    assert pace.reserve() == LONGEST_S


def test_whoever_waits_for_a_turn_can_be_stopped(tmp_path: Path) -> None:
    pace, stop = Pace(tmp_path / "x", 600.0), threading.Event()
    assert pace.wait(stop)
    threading.Timer(0.05, stop.set).start()
    assert not pace.wait(stop)


def take(path: Path, turns: int) -> None:
    pace = Pace(path, 0.001)
    for _ in range(turns):
        pace.reserve()


def test_processes_take_no_turn_twice(tmp_path: Path) -> None:
    Pace(tmp_path / "x", 0.001).postpone(60)
    begin_s = float((tmp_path / "x").read_text())
    spawned = multiprocessing.get_context("spawn")
    takers = [spawned.Process(target=take, args=(tmp_path / "x", 200)) for _ in range(2)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert [taker.exitcode for taker in takers] == [0, 0]
    assert round(float((tmp_path / "x").read_text()) - begin_s, 3) == 0.4
