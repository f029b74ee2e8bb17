"""The laws of work aside: it is awaited or canceled, never left behind, and what it raises is heard once."""

import threading

import pytest

from cryptoflow.runtime.aside import Aside

WAIT_S = 30


class Work:
    """Goes on until it is told to end, or canceled."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()
        self.canceled = 0
        self.aside = Aside("work", self, self.cancel)

    def __call__(self) -> None:
        self.begun.set()
        assert self.over.wait(WAIT_S)

    def cancel(self) -> None:
        self.canceled += 1
        self.over.set()


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("work")]


def broken() -> None:
    raise ZeroDivisionError


def nothing() -> None:
    """Cancels nothing."""


def test_it_is_done_when_the_work_is() -> None:
    work = Work()
    aside = work.aside.start()
    assert work.begun.wait(WAIT_S)
    assert not aside.done()
    work.over.set()
    aside.wait(WAIT_S)
    assert aside.done()
    aside.cancel()
    assert (work.canceled, threads()) == (0, [])


def test_to_end_it_cancels_it_and_waits_for_it() -> None:
    work = Work()
    aside = work.aside.start()
    aside.end()
    assert aside.done()
    assert (work.canceled, threads()) == (1, [])


def test_what_it_raises_is_raised_where_somebody_looks() -> None:
    aside = Aside("work", broken, nothing).start()
    aside.wait(WAIT_S)
    for look in (aside.done, aside.end):
        with pytest.raises(ZeroDivisionError):
            look()


def test_what_it_raises_once_it_is_canceled_is_not() -> None:
    Aside("work", broken, nothing).start().cancel()
    assert threads() == []


def test_what_has_not_begun_is_not_done_and_needs_no_cancel() -> None:
    work = Work()
    assert not work.aside.done()
    work.aside.cancel()
    assert (work.canceled, work.begun.is_set()) == (0, False)
