"""Laws of the endless response: a viewer that leaves ends it, and the events' source is told."""

import asyncio
import time
from collections.abc import AsyncGenerator
from unittest.mock import ANY, create_autospec

import pytest
from starlette.types import Message

from cryptoflow.web.api import Parts, live
from cryptoflow.web.events import Hub
from cryptoflow.web.live import Live
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


async def answer(stream: EventStream, takes: int) -> None:
    """Send to a connection that takes so many parts and no more, until it is cut after a moment."""
    taken, leaves = 0, asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, leaves.set)

    async def send(message: Message) -> None:
        nonlocal taken
        if taken == takes:
            await asyncio.Event().wait()
        taken += 1

    async def receive() -> Message:
        await leaves.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
    await stream(scope, receive, send)


@pytest.mark.parametrize("takes", [3, 10**9])
def test_a_viewer_that_leaves_is_let_go(takes: int) -> None:
    source = Source()
    asyncio.run(answer(EventStream(source.messages()), takes))
    assert source.closed


@pytest.mark.parametrize("takes", [0, 1, 2])
def test_the_hub_forgets_a_viewer_whenever_it_leaves(takes: int) -> None:
    hub = Hub("e", time.monotonic, keep_s=1.0, heartbeat_s=0.01)
    parts = Parts(ANY, create_autospec(Live), hub, ANY, 60)

    async def watch() -> None:
        await answer(await live(parts, ["Kraken"], ["BTC-USD"]), takes)

    asyncio.run(watch())
    assert hub.viewers == 0
