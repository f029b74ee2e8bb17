"""Processes that hold the lease of a run."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 20

HOLD = """
import subprocess, sys
from pathlib import Path
from cryptoflow.runtime.lease import lease
child = subprocess.Popen(["sleep", "60"])
with lease(Path(sys.argv[1]), sys.argv[2], "part"):
    print("held", flush=True)
    sys.stdin.read()
child.kill()
"""


@contextmanager
def holder(home: Path, run_id: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the lease of a part of the run, with a child, until its input ends."""
    command = [sys.executable, "-c", HOLD, str(home), run_id]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
