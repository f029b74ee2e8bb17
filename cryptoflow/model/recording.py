"""A recording of a feed: a line for each frame that came; `cryptoflow record` writes it, the simulators replay it.

A line is JSON: `received_ns`, when the frame came, in ns since the epoch; `venue`, who sent it, by its name; `socket`,
the number of the websocket, from 1 on, in the order of their opening; `frame`, the text as it came. Only the first and
the last have to be there.
"""

import msgspec

from cryptoflow.model.trade import DECODE_ERRORS


class Record(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One frame."""

    received_ns: int
    """In ns since the epoch."""
    venue: str = ""
    socket: int = 0
    frame: str


_decoder = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()


def record_line(record: Record) -> bytes:
    """The line of a frame, with its line feed."""
    return _encoder.encode(record) + b"\n"


def record_of(line: bytes) -> Record | None:
    """The frame that a line holds; None if it is a frame by itself."""
    try:
        return _decoder.decode(line)
    except DECODE_ERRORS:
        return None
