"""The laws of the buffer of frames, and its reader over a real connection."""

import socket
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError

import pytest

from cryptoflow.model.trade import write_trade
from cryptoflow.spark.memory_source import FrameBuffer, FrameReader, offset_json, offset_of
from cryptoflow_tests.spark.streaming import PATIENCE_S, a_trade


@pytest.fixture
def buffer() -> Iterator[FrameBuffer]:
    with FrameBuffer(capacity=10) as made:
        yield made


def feed(buffer: FrameBuffer, *numbers: int) -> None:
    for number in numbers:
        buffer.trade(a_trade(number), write_trade(a_trade(number)))


def frames(*numbers: int) -> list[str]:
    return [write_trade(a_trade(number)).decode() for number in numbers]


def held(buffer: FrameBuffer, start: int, end: int | None = None) -> list[str]:
    return [frame for frame, _ in buffer.rows(start, end)]


def feeding(buffer: FrameBuffer, number: int) -> threading.Thread:
    thread = threading.Thread(target=feed, args=(buffer, number))
    thread.start()
    return thread


def reader(buffer: FrameBuffer) -> FrameReader:
    host, port = buffer._listener.address
    return FrameReader(host, port, buffer._key)


def test_an_offset_survives_its_json() -> None:
    assert offset_of(offset_json(7)) == 7


def test_frames_are_numbered_from_0_in_the_order_they_came(buffer: FrameBuffer) -> None:
    assert buffer.end == 0
    feed(buffer, 4, 5, 6)
    assert buffer.end == 3
    assert held(buffer, 0) == frames(4, 5, 6)
    assert held(buffer, 1, 2) == frames(5)


def test_a_range_can_be_read_again_until_it_is_committed(buffer: FrameBuffer) -> None:
    feed(buffer, 0, 1, 2, 3)
    assert buffer.rows(0, 2) == buffer.rows(0, 2)
    buffer.commit(2)
    assert held(buffer, 2) == frames(2, 3)
    assert buffer.end == 4


def test_a_commit_forgets_what_is_before_it_once(buffer: FrameBuffer) -> None:
    feed(buffer, 0, 1, 2)
    buffer.commit(2)
    buffer.commit(2)
    feed(buffer, 3)
    assert held(buffer, 2) == frames(2, 3)
    assert len(buffer._rows) == 2


def test_a_full_buffer_holds_its_feeder_until_a_commit(buffer: FrameBuffer) -> None:
    feed(buffer, *range(10))
    thread = feeding(buffer, 10)
    thread.join(0.2)
    assert thread.is_alive()
    assert buffer.end == 10
    buffer.commit(1)
    thread.join(PATIENCE_S)
    assert held(buffer, 10) == frames(10)


def test_the_end_frees_a_feeder_that_waits() -> None:
    with FrameBuffer(capacity=1) as buffer:
        feed(buffer, 0)
        thread = feeding(buffer, 1)
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_the_end_closes_the_port_and_ends_its_thread() -> None:
    before = set(threading.enumerate())
    with FrameBuffer() as buffer:
        (thread,) = set(threading.enumerate()) - before
        source = reader(buffer)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        source.read(offset_json(0))


def test_the_reader_reads_reads_again_and_commits_over_a_connection(buffer: FrameBuffer) -> None:
    feed(buffer, 0, 1, 2)
    source = reader(buffer)
    rows, end = source.read(source.initialOffset())
    assert [frame for frame, _ in rows] == frames(0, 1, 2)
    assert offset_of(end) == 3
    again = source.readBetweenOffsets(offset_json(1), offset_json(3))
    assert [frame for frame, _ in again] == frames(1, 2)
    source.commit(offset_json(2))
    assert held(buffer, 2) == frames(2)
    rows, end = source.read(end)
    assert (list(rows), offset_of(end)) == ([], 3)


def test_a_stranger_is_refused_and_the_buffer_serves_on(buffer: FrameBuffer) -> None:
    feed(buffer, 0)
    host, port = buffer._listener.address
    with pytest.raises(AuthenticationError):
        FrameReader(host, port, b"a wrong key").read(offset_json(0))
    socket.create_connection((host, port)).close()
    rows, _ = reader(buffer).read(offset_json(0))
    assert [frame for frame, _ in rows] == frames(0)
