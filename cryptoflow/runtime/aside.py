"""A piece of work in a thread of its own, for whoever has something else to watch as well."""

from collections.abc import Callable
from concurrent import futures
from typing import Self


class Aside:
    """Work that goes on meanwhile.

    Args:
        name: of its thread.
        work: what to do.
        cancel: has it end soon; not called once it is done.
    """

    def __init__(self, name: str, work: Callable[[], object], cancel: Callable[[], None]) -> None:
        self._work, self._cancel = work, cancel
        self._pool = futures.ThreadPoolExecutor(1, name)
        self._future: futures.Future[object] = futures.Future()
        self._begun = False

    def start(self) -> Self:
        """Begin with it."""
        self._begun, self._future = True, self._pool.submit(self._work)
        return self

    def done(self) -> bool:
        """Whether it is done.

        Raises:
            Exception: what the work has raised.
        """
        if done := self._future.done():
            self._future.result()
        return done

    def wait(self, timeout_s: float) -> None:
        """Wait until it is done, for so long at most."""
        futures.wait([self._future], timeout_s)

    def cancel(self) -> None:
        """Have it end, if it has begun, and wait for that; what it raises is nobody's concern any more."""
        if self._begun and not self._future.done():
            self._cancel()
        self._pool.shutdown()

    def end(self) -> None:
        """The same; but it raises what the work has raised."""
        self.cancel()
        self._future.result()
