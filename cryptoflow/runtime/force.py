"""An end by force, of this process or another, with all its children: nothing that is wrong may keep it from coming."""

import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

import psutil

SAY_S = 1.0
"""How long to try to say why: nobody may read what this process writes."""


def kill_family(process: psutil.Process, itself: bool = True) -> None:
    """Kill its children, and it `itself`; whoever is gone by then is no hindrance."""
    for each in [*_children(process), *([process] if itself else [])]:
        with suppress(psutil.Error):
            each.kill()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def end_now(said: str) -> NoReturn:
    """End this process with its children, at once and without any clean-up; `said` goes to stderr."""
    try:
        # Whoever hangs may hold the stream's lock, and a pipe may be full.
        saying = threading.Thread(target=sys.stderr.write, args=(f"{said}\n",), daemon=True)
        saying.start()
        saying.join(SAY_S)
        kill_family(psutil.Process(), itself=False)
    finally:
        os._exit(1)
