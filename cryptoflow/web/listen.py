"""Where the page listens: its address stands, and browsers may come, before the server is up."""

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptoflow.errors import PrerequisiteError
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, WebSettings

if TYPE_CHECKING:
    import uvicorn

END_TIMEOUT_S = 5.0

UNSENT_BYTES = 16 * 1024
"""What may wait in the kernel until a viewer takes it; of what comes then only the newest state follows. Untold, the
kernel takes megabytes, and a slow viewer would see what was minutes ago."""

SLOW_MS = 10_000
"""A viewer that takes nothing for so long is dropped, by the kernel; a browser comes back by itself."""

BACKLOG = 256
"""Browsers that may wait while the server starts."""


def listening_socket(web: WebSettings, *, or_another: bool = False) -> tuple[socket.socket, WebSettings]:
    """The socket of the page, and the settings with its port; who connects is answered as soon as the server is up.

    Args:
        or_another: take any free port where that one is taken.

    Raises:
        PrerequisiteError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    try:
        listener = socket.create_server((web.host, web.port), family=family, backlog=BACKLOG)
    except OSError as error:
        if or_another and error.errno == errno.EADDRINUSE:
            listener = socket.create_server((web.host, 0), family=family, backlog=BACKLOG)
            return _bounded(listener), web.model_copy(update={"port": listener.getsockname()[1]})
        raise PrerequisiteError(
            f"The page can't listen at {web.host}:{web.port} ({error.strerror}): "
            "set CRYPTOFLOW_WEB_PORT to another port."
        ) from None
    return _bounded(listener), web


def _bounded(listener: socket.socket) -> socket.socket:
    for name, value in (("TCP_NOTSENT_LOWAT", UNSENT_BYTES), ("TCP_USER_TIMEOUT", SLOW_MS)):
        if option := getattr(socket, name, None):  # Linux has both
            listener.setsockopt(socket.IPPROTO_TCP, option, value)  # its connections inherit it
    return listener


def address(web: WebSettings) -> str:
    """Where the page is; without the token."""
    return f"http://{f'[{web.host}]' if ':' in web.host else web.host}:{web.port}"


@contextmanager
def serving(
    listener: socket.socket,
    web: WebSettings,
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    spark: SparkSettings,
) -> Iterator[None]:
    """Answer at the socket for as long as the block lasts, in a thread of its own."""
    made: list[uvicorn.Server] = []
    ending = threading.Event()

    def serve() -> None:
        # Imported here: it takes a second that nobody should wait for.
        from cryptoflow.web.server import Server, uvicorn_server

        made.append(uvicorn_server(Server(web, kafka, cassandra, spark)))
        if not ending.is_set():
            made[0].run([listener])

    thread = threading.Thread(target=serve, name="web", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        for server in made:
            server.should_exit = True
        thread.join(END_TIMEOUT_S)
        listener.close()
