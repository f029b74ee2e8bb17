"""Room on this machine: disk and memory."""

import shutil
from pathlib import Path

import psutil

from cryptoflow.errors import PrerequisiteError

GIB = 2**30
DISK_BYTES = 1 * GIB
"""Free disk that Kafka and Cassandra need to start; they stop in the middle of a write when it runs out."""

MEMORY_BYTES = 2 * GIB
"""Free memory that the JVMs of Kafka, Cassandra and Spark need together to start."""


def require_disk(home: Path, needed_bytes: int = DISK_BYTES) -> int:
    """The free disk where `home` is or will be, in bytes.

    Raises:
        PrerequisiteError: it is too little.
    """
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise PrerequisiteError(
            f"The disk of {home} has {free / GIB:.1f} GiB free and {needed_bytes / GIB:.1f} are needed: make "
            "room there, or set CRYPTOFLOW_HOME to a folder on a larger disk."
        )
    return free


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
