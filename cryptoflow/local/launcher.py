"""Becomes another program: `launcher.py PARENT_PID SIGNAL FOLDER PROGRAM ARGUMENT...`, run as a script of its own.

The program works in FOLDER. With a PARENT_PID other than 0 the kernel sends it SIGNAL as soon as the
thread that started it ends, so also after a kill -9 of the parent. A script, and no preexec_fn, since code between
fork and exec can deadlock in a process that has threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h; the setting outlives exec."""


def tie_to(parent_pid: int, signal_number: int) -> None:
    """Get the signal when the parent dies. It may be gone already: then nobody would tell."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        sys.exit("the parent is gone")


if __name__ == "__main__":
    parent, number, folder, *command = sys.argv[1:]
    if int(parent):
        tie_to(int(parent), int(number))
    os.chdir(folder)
    os.execv(command[0], command)
