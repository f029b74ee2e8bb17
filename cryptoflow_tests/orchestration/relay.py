"""Stands between a feed and its clients, and sees how these leave."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.sync.server import ServerConnection, serve


class Relay:
    """A feed's address of its own; made by `relay`."""

    def __init__(self, feed_url: str) -> None:
        self._feed_url = feed_url
        self.url = ""
        self.left = 0
        """Clients that asked for the removal of all their subscriptions before they closed."""
        self.hung_up = 0
        """Clients that did not."""

    def serve(self, client: ServerConnection) -> None:
        """Carry frames both ways until either side closes."""
        subscribed: set[str] = set()
        with connect(self._feed_url) as feed:
            back = threading.Thread(target=_carry, args=(feed, client))
            back.start()
            with suppress(ConnectionClosed):
                for frame in client:
                    asked = json.loads(frame)
                    change = subscribed.update if asked["action"] == "SubAdd" else subscribed.difference_update
                    change(asked["subs"])
                    feed.send(frame)
        back.join()
        self.left += not subscribed
        self.hung_up += bool(subscribed)


def _carry(source: Connection, target: Connection) -> None:
    with suppress(ConnectionClosed):
        for frame in source:
            target.send(frame)


@contextmanager
def relay(feed_url: str) -> Iterator[Relay]:
    """A relay to the feed, for the length of the block."""
    made = Relay(feed_url)
    with serve(made.serve, "127.0.0.1", 0) as server:
        host, port = server.socket.getsockname()
        made.url = f"ws://{host}:{port}/v2"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()
