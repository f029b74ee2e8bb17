"""The response that never ends: server-sent events, until the viewer leaves."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Send


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
        """Send until the viewer is gone; starlette would leave the source to the garbage collection."""
        async with aclosing(self._messages):
            await super().stream_response(send)
