"""`python -m benchmarks.frame_server COUNT`: a feed of ready-made frames, as fast as a socket takes them.

Says its address in the first line. The simulator makes each frame when it is due, which is its limit; here they are
made before the first client is let in, as they go over the wire, and written many at a time.
"""

import json
import sys
import time

from websockets.frames import Frame, Opcode
from websockets.sync.server import ServerConnection, serve

from benchmarks.trades import sent

WRITER = 0
"""Whose pairs they are."""

FRAMES_AT_ONCE = 250
"""About 64 KiB."""


def on_the_wire(count: int) -> list[bytes]:
    """The trades' frames as a server writes them, many in each piece."""
    start_ns = int(time.time()) * 1_000_000_000
    frames = [Frame(Opcode.TEXT, frame).serialize(mask=False) for _, _, frame in sent(WRITER, count, start_ns)]
    return [b"".join(frames[at : at + FRAMES_AT_ONCE]) for at in range(0, count, FRAMES_AT_ONCE)]


def answers(action: str, subs: list[str]) -> list[str]:
    """What the feed answers to a SubAdd or SubRemove."""
    kind, all_done = ("16", "3") if action == "SubAdd" else ("17", "18")
    return [
        *(json.dumps({"TYPE": kind, "MESSAGE": "", "SUB": sub}) for sub in subs),
        json.dumps({"TYPE": all_done, "MESSAGE": ""}),
    ]


def talk(socket: ServerConnection, pieces: list[bytes]) -> None:
    """Welcome, the answer to the subscriptions, all trades, and the answer to the end."""
    socket.send('{"TYPE":"20","MESSAGE":"STREAMERWELCOME","SERVER_NAME":"benchmark"}')
    for number, request in enumerate(socket):
        for answer in answers(**json.loads(request)):
            socket.send(answer)
        if number == 0:
            _send(socket, pieces)


def _send(socket: ServerConnection, pieces: list[bytes]) -> None:
    for piece in pieces:
        with socket.protocol_mutex:  # the thread that answers pings must not write into the middle of a frame
            socket.socket.sendall(piece)


if __name__ == "__main__":
    made = on_the_wire(int(sys.argv[1]))
    with serve(lambda socket: talk(socket, made), "127.0.0.1", 0, compression=None) as server:
        sys.stdout.write(f"ws://127.0.0.1:{server.socket.getsockname()[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
