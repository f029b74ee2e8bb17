"""A lock between processes, held by the kernel for its holder and freed by the holder's death."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, wait: bool = True, owner: str = "") -> Iterator[None]:
    """Hold the lock file `path`, made if missing; waits for its holder. `owner` is what `owner_of` tells of it.

    What was told is taken back at the end of the block, so what stands in a lock that nobody holds is of a holder
    that was killed.

    Raises:
        BlockingIOError: somebody else holds it, and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(owner)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def held(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def owner_of(path: Path) -> str:
    """What the holder told of itself; empty where the last one ended cleanly, or there never was one."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
