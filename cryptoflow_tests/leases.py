"""Processes that hold the lease of a run."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 20

HOLD = """
import select, subprocess, sys
from pathlib import Path
from cryptoflow.runtime.lease import lease
child = subprocess.Popen(["sleep", "60"])
home, run_id, within_s = sys.argv[1:]
with lease(Path(home), run_id, "part") as held:
    if float(within_s):
        held.promise(float(within_s))
    print("held", flush=True)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        if float(within_s):
            held.promise(float(within_s))
child.kill()
"""


@contextmanager
def holder(home: Path, run_id: str, within_s: float = 0) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lease of a part of the run, with a child, until its input ends.

    `within_s`: it promises progress within so many s, and keeps that all the time.
    """
    command = [sys.executable, "-c", HOLD, str(home), run_id, str(within_s)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
