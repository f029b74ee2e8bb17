"""Laws of the endless response: a viewer that leaves ends it, and the events' source is told."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from cryptoflow.web.stream import EventStream


class Source:
    """Gives events for ever, and notes when it is closed."""

    def __init__(self) -> None:
        self.closed = False

    async def messages(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"event: candle\ndata: {}\n\n"
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def answer(source: Source, takes: int, leaves: asyncio.Event) -> int:
    """The parts that a connection took which takes `takes` of them and no more."""
    taken = 0

    async def send(message: Message) -> None:
        nonlocal taken
        if taken == takes:
            await asyncio.Event().wait()
        taken += 1

    async def receive() -> Message:
        await leaves.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
    await EventStream(source.messages())(scope, receive, send)
    return taken


@pytest.mark.parametrize("takes", [3, 10**9])
def test_a_viewer_that_leaves_is_let_go(takes: int) -> None:
    source = Source()

    async def leave_soon() -> None:
        leaves = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, leaves.set)
        await answer(source, takes, leaves)

    asyncio.run(leave_soon())
    assert source.closed
