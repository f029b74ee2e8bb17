"""Laws of the watchdog: a part that makes progress is left alone, one that does not ends with its process."""

import subprocess
import sys

import psutil
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.runtime.watchdog import LONGEST_STEP_S, Pulse

WAIT_S = 20

START_S, STALLED_S = 30.0, 10.0

HANGS = """
import subprocess, sys, threading
from cryptoflow.runtime import watchdog
watchdog.START_S = watchdog.STALLED_S = float(sys.argv[1])
watchdog.LOOK_S = 0.05
child = subprocess.Popen(["sleep", "60"])
with watchdog.watched(lambda within_s: print(within_s, flush=True)) as beat:
    print(child.pid, flush=True)
    while sys.stdin.readline():  # a line is progress
        beat()
child.kill()
"""

looks = st.lists(st.floats(0, 2 * LONGEST_STEP_S), max_size=50)


def pulse() -> Pulse:
    return Pulse(0, START_S, STALLED_S)


def test_a_part_that_has_not_begun_has_longer() -> None:
    #  0        10        20        30
    #  |---------|---------|---------|  looks each second, no beat
    starting = pulse()
    assert [now_s for now_s in range(40) if starting.stalled(now_s)] == list(range(30, 40))


def test_after_the_first_beat_the_next_must_come_in_time() -> None:
    #  0    5         15
    #  |----B----------|
    beating = pulse()
    stalled = []
    for now_s in range(20):
        if now_s == 5:
            beating.beat()
        if beating.stalled(now_s):
            stalled.append(now_s)
    assert stalled == list(range(15, 20))


@given(looks)
def test_whoever_beats_between_any_two_looks_never_stalls(steps_s: list[float]) -> None:
    beating, now_s = pulse(), 0.0
    for step_s in steps_s:
        now_s += step_s
        beating.beat()
        assert not beating.stalled(now_s)


@given(looks, st.floats(60, 1e6))
def test_time_in_which_all_stood_still_does_not_count(steps_s: list[float], slept_s: float) -> None:
    awake, asleep = pulse(), pulse()
    now_s = 0.0
    for step_s in [*steps_s, LONGEST_STEP_S]:
        now_s += step_s
        told = awake.stalled(now_s)
    assert asleep.stalled(slept_s) is False
    # the same looks, the last of them after a long sleep
    asleep, now_s = pulse(), 0.0
    for step_s in [*steps_s, slept_s]:
        now_s += step_s
        slept = asleep.stalled(now_s)
    assert slept == told


def test_a_process_whose_part_hangs_is_ended_with_its_children_and_says_why() -> None:
    pipe, command = subprocess.PIPE, [sys.executable, "-c", HANGS, "0.3"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout
        assert process.stderr
        promised, child = (process.stdout.readline().strip() for _ in range(2))
        assert process.wait(WAIT_S) == 1
        assert process.stderr.read() == "The run made no progress for 0.3 s: it is ended by force.\n"
        assert (promised, process.stdout.read()) == ("0.3", "0\n")
        assert not psutil.pid_exists(int(child)) or psutil.Process(int(child)).status() == psutil.STATUS_ZOMBIE


def test_one_that_ends_in_time_is_left_alone() -> None:
    command = [sys.executable, "-c", HANGS, str(WAIT_S)]
    done = subprocess.run(command, input="\n" * 3, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split()[2:] == [f"{WAIT_S:.1f}"] * 3
