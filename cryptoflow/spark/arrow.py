"""Tables of Arrow as bytes, as they go through Spark in one cell."""

import pyarrow as pa


def to_bytes(table: pa.Table) -> bytes:
    """The table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def to_table(stream: bytes) -> pa.Table:
    """The table of an Arrow stream; its columns lie in the stream's own memory."""
    return pa.ipc.open_stream(stream).read_all()
