"""Laws of replayed files."""

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import ConfigError
from cryptoflow.simulator.config import VENUES, SimulatorConfig, VenueName
from cryptoflow.simulator.events import Kind
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.feed import frames
from cryptoflow.simulator.replay import Replay, due_s, events, read_frames

SUB = "0~Coinbase~BTC~USD"
OTHER = "0~Kraken~BTC~USD"


def lines(count: int, step_s: float = 1.0) -> list[bytes]:
    """Generated trades of two pairs, with odd white space: a rewritten frame would differ from its line."""
    config = SimulatorConfig(start_time_s=1_600_000_000, time_step_s=step_s, max_trades=count)
    return [frame.replace(b",", b" ,  ") for frame in frames(config, (SUB, OTHER))]


def written(folder: Path, content: list[bytes], name: str = "frames.jsonl") -> Path:
    path = folder / name
    data = b"\n".join(content) + b"\n"
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def replayed(path: Path, *subscriptions: str) -> list[bytes]:
    return list(frames(SimulatorConfig(replay=path, speed=0), subscriptions))


@pytest.mark.parametrize("name", ["frames.jsonl", "frames.jsonl.gz"])
def test_frames_leave_byte_for_byte_as_in_the_file(tmp_path: Path, name: str) -> None:
    content = lines(100)
    assert replayed(written(tmp_path, content, name), SUB, OTHER) == content


def test_only_subscribed_pairs_leave(tmp_path: Path) -> None:
    content = lines(100)
    assert replayed(written(tmp_path, content), OTHER) == [line for line in content if b"Kraken" in line]


def test_lines_that_are_no_trades_keep_their_place(tmp_path: Path) -> None:
    first, second, third = lines(3)
    content = [b"no JSON", first, b"", b'{"TYPE":"999"}', second, b'{"TYPE":"0","M":"Coinbase"}', third]
    assert replayed(written(tmp_path, content), SUB, OTHER) == content
    assert [event.kind for event in events(iter(content))].count(Kind.MALFORMED) == 4


SUBS: dict[VenueName, str] = {
    "cryptocompare": SUB,
    "coinbase": "0~Coinbase~BTC~USD",
    "binance": "0~Binance~BTC~USDT",
    "kraken": "0~Kraken~BTC~USD",
}


@pytest.mark.parametrize("venue", VENUES)
def test_a_recording_with_broken_frames_is_replayed_whole(tmp_path: Path, venue: VenueName) -> None:
    broken = SimulatorConfig(
        venue=venue, start_time_s=1_600_000_000, time_step_s=1, max_trades=200, faults=Faults(malformed=0.5)
    )
    content = list(frames(broken, [SUBS[venue]]))
    path = written(tmp_path, content)
    assert list(frames(SimulatorConfig(venue=venue, replay=path, speed=0), [SUBS[venue]])) == content


GARBAGE = (
    b"5", b'"x"', b"null", b"[1,2]", b'{"data":5}', b'{"data":[1]}', b"[" * 5000, b'{"a":' * 5000, b"\xff\xfe",
    b'{"e":"trade","s":5,"t":1,"T":1,"p":"5","q":"1","m":true}',
    b'{"e":"trade","s":"BTCUSDT","t":1,"T":1,"p":5,"q":"1","m":true}',
    b'{"e":"trade","s":"BTCUSDT","t":-9300000000000000000,"T":1,"p":"5","q":"1","m":true}',
    b'{"e":"trade","s":"BTCUSDT","t":1,"T":-9223372036854775807,"p":"-99999999999999999999","q":"1","m":true}',
    b'{"type":"match","trade_id":1,"product_id":5}',
    b'{"type":"match","trade_id":1,"product_id":"BTC-USD","side":"buy","price":1,"size":"1","time":5}',
    b'{"channel":"trade","data":[{"symbol":5}]}',
    b'{"channel":"trade","data":[{"symbol":"BTC/USD","side":"sell","price":1,"qty":-99999999999999999999,"trade_id":1,'
    b'"timestamp":"2026-01-01T00:00:00Z"}]}',
)  # fmt: skip


@pytest.mark.parametrize("venue", VENUES)
def test_no_frame_of_a_recording_ends_its_replay(tmp_path: Path, venue: VenueName) -> None:
    sent = list(frames(SimulatorConfig(venue=venue, replay=written(tmp_path, [*GARBAGE]), speed=0), [SUBS[venue]]))
    assert {*GARBAGE[:4], *GARBAGE[6:9]} <= {*sent} <= {*GARBAGE, b""}


def test_the_last_line_needs_no_line_feed(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b"a\nb")
    assert list(read_frames(path)) == [b"a", b"b"]


@given(st.integers(0, 10**18), st.integers(0, 10**15), st.floats(0.01, 1000))
def test_a_trade_is_due_its_recorded_distance_from_the_first_divided_by_the_speed(
    first_ns: int, later_ns: int, speed: float
) -> None:
    assert due_s(first_ns + later_ns, first_ns, speed) == pytest.approx(later_ns / 1e9 / speed)
    assert due_s(first_ns - later_ns, first_ns, speed) == 0
    assert due_s(first_ns + later_ns, first_ns, 0) == 0


def test_a_replay_keeps_the_recorded_pace_and_what_is_no_trade_leaves_with_the_trade_before(
    tmp_path: Path,
) -> None:
    first, second, third = lines(3, step_s=10)
    replay = Replay(written(tmp_path, [b"early", first, second, b"broken", third]), speed=2)
    due = []
    while (next_s := replay.next_due_s()) is not None:
        due.append(next_s)
        replay.pull(())
    assert due == [0, 0, 5, 5, 10]


def test_a_trade_out_of_order_leaves_at_its_place(tmp_path: Path) -> None:
    first, second, third = lines(3, step_s=10)
    assert [event.frame for event in events(iter([first, third, second]))] == [first, third, second]
    stream_ns = [event.stream_ns for event in events(iter([first, third, second]))]
    assert stream_ns == sorted(stream_ns)


def test_an_empty_file_is_an_ended_stream(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert Replay(path, 1).next_due_s() is None


def test_a_file_is_read_as_it_is_replayed(tmp_path: Path) -> None:
    """The far end of the pipe writes on only when the first line was read, so reading all would never end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(path.open, "wb", buffering=0)
        reading = read_frames(path)
        first = pool.submit(lambda: writer.result().write(b"first\n"))
        assert next(reading) == b"first"
        assert first.result() == 6
        writer.result().write(b"second\n")
        writer.result().close()
        assert list(reading) == [b"second"]


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.jsonl.gz", "folder", "plain.gz"])
def test_a_file_that_cannot_be_read_is_reported_at_once_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain.gz").write_bytes(b"not packed")
    with pytest.raises(ConfigError, match=name):
        Replay(tmp_path / name, 1)


def test_a_damaged_file_is_reported_where_the_damage_is(tmp_path: Path) -> None:
    path = written(tmp_path, lines(20_000), "cut.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-1000])
    replay = iter(read_frames(path))
    assert next(replay)
    with pytest.raises(ConfigError, match=r"cut.jsonl.gz is damaged"):
        list(replay)
