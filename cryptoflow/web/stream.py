"""The response that never ends: server-sent events, until the viewer leaves or is too slow."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

SLOW_S = 10.0
"""A viewer whose connection takes nothing for so long is dropped; a browser comes back by itself."""

RETRY_MS = 1000
"""How long a browser waits until it comes back; its own default is several seconds."""


class EventStream(StreamingResponse):
    """Server-sent events (format: WHATWG HTML, 9.2).

    Args:
        messages: each some events as they go over the wire; closed when the viewer is gone.
    """

    media_type = "text/event-stream"

    def __init__(self, messages: AsyncGenerator[bytes, None]) -> None:
        super().__init__(messages, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._messages = messages

    async def stream_response(self, send: Send) -> None:
        """Send until the viewer is gone, or takes nothing for `SLOW_S`."""
        now = asyncio.get_running_loop().time
        with suppress(TimeoutError):  # an answer that breaks off: that is how the viewer's end learns of it
            async with aclosing(self._messages), asyncio.timeout(SLOW_S) as patience:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send(_part(b"retry: %d\n\n" % RETRY_MS))
                patience.reschedule(None)
                async for message in self._messages:
                    patience.reschedule(now() + SLOW_S)
                    await send(_part(message))
                    patience.reschedule(None)


def _part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}
