"""Room on this machine: disk and memory."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cryptoflow.errors import PrerequisiteError

GIB = 2**30
DISK_BYTES = 1 * GIB
"""Free disk that Kafka and Cassandra need to start; they stop in the middle of a write when it runs out."""

FULL_BYTES = 2**24
"""With less free disk, whatever fails fails for want of it: SQLite, Kafka, Cassandra and Spark write more at once."""

MEMORY_BYTES = 2 * GIB
"""Free memory that the JVMs of Kafka, Cassandra and Spark need together to start."""


def require_disk(home: Path, needed_bytes: int = DISK_BYTES) -> int:
    """The free disk where `home` is or will be, in bytes.

    Raises:
        PrerequisiteError: it is too little.
    """
    free = _free_disk(home)
    if free < needed_bytes:
        raise PrerequisiteError(
            f"The disk of {home} has {free / GIB:.1f} GiB free and {needed_bytes / GIB:.1f} are needed: make "
            "room there, or set CRYPTOFLOW_HOME to a folder on a larger disk."
        )
    return free


@contextmanager
def full_disk_told(home: Path, full_bytes: int = FULL_BYTES) -> Iterator[Callable[[], None]]:
    """Whatever fails in the block is told as what it comes from, if the disk of `home` was full before.

    Gives what looks at the disk, to be called now and then: what fails also leaves room behind.

    Raises:
        PrerequisiteError: something failed, and the disk was full.
    """
    full = False

    def look() -> None:
        nonlocal full
        full = full or _free_disk(home) < full_bytes

    try:
        yield look
    except Exception as error:
        look()
        if not full:
            raise
        raise PrerequisiteError(
            f"The disk of {home} is full: make room there and run again, which goes on from where it stopped."
        ) from error


def _free_disk(home: Path) -> int:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def require_memory(needed_bytes: int = MEMORY_BYTES) -> int:
    """The memory that is free for new programs, in bytes.

    Raises:
        PrerequisiteError: it is too little.
    """
    free = int(psutil.virtual_memory().available)
    if free < needed_bytes:
        raise PrerequisiteError(
            f"This machine has {free / GIB:.1f} GiB of memory free and {needed_bytes / GIB:.1f} are needed: "
            "end other programs, or let KAFKA_BOOTSTRAP_SERVERS and CASSANDRA_CONTACT_POINTS name services "
            "that run elsewhere."
        )
    return free
