"""What `/api/live` promises: each trade in its candle at once, the stored row in its place, nothing missed."""

import time
from collections.abc import Callable
from datetime import timedelta
from itertools import islice

import pytest

from cryptoflow.model.candle import candle_row, candles_of
from cryptoflow.model.window import DAY_S, utc_time, window_start_ns
from cryptoflow.tables.schema import CANDLES
from cryptoflow_tests.watching import Watched, a_trade, await_that

PAIRS = iter(range(10**6))
MOST_S = 5.0
"""From a row's write to the viewer; a second on a quiet machine."""


@pytest.fixture
def server(shared_server: Watched) -> Watched:
    return shared_server


def a_pair() -> tuple[str, str, str]:
    """One that no other test has."""
    return "Coinbase", f"C{next(PAIRS)}", "USD"


def asked(pair: tuple[str, str, str]) -> dict[str, str]:
    return {"market": pair[0], "pair": f"{pair[1]}-{pair[2]}"}


def test_a_candle_that_forms_is_the_reference_of_its_trades(server: Watched) -> None:
    pair = a_pair()
    start_ns = window_start_ns(server.now_ns(), 60)
    with server.sender() as send, server.live(**asked(pair)) as stream:
        trades = [send(100.0 + number / 7, pair, start_ns + number) for number in range(50)]
        event = stream.until(lambda event: event.data["trades"] == 50)
    [candle] = candles_of(trades, 60).values()
    row = candle_row(candle)
    assert event.kind == "candle"
    assert event.data == {
        **row._asdict(),
        "date": row.date.isoformat().replace("+00:00", "Z"),
        "window_start": row.window_start.isoformat().replace("+00:00", "Z"),
        "stored": False,
    }


def test_a_viewer_sees_the_trades_from_before_it_came(server: Watched) -> None:
    pair = a_pair()
    at_ns = window_start_ns(server.now_ns(), 60)
    with server.sender() as send:
        for price in (3.0, 1.0, 2.0):
            send(price, pair, at_ns := at_ns + 1)
        with server.live(**asked(pair)) as stream:
            data = stream.until(lambda event: event.data["trades"] == 3).data
    assert (data["open"], data["high"], data["low"], data["close"]) == (3.0, 3.0, 1.0, 2.0)


def test_a_pair_is_named_as_soon_as_it_has_a_trade(server: Watched) -> None:
    pair = a_pair()
    with server.sender() as send:
        send(1.0, pair)
        await_that(lambda: asked(pair)["pair"] in {each["pair"] for each in server.get("pairs").json})


def test_the_stored_row_replaces_the_candle_when_its_window_is_finished(
    server: Watched, report: Callable[[str], None]
) -> None:
    pair = a_pair()
    start_ns = window_start_ns(server.now_ns(), 60)
    start = utc_time(start_ns)
    with server.sender() as send, server.live(**asked(pair)) as stream:
        trades = [send(5.0, pair, start_ns + 1), send(6.0, pair, start_ns + 2)]
        stream.until(lambda event: event.data["trades"] == 2)
        [candle] = candles_of(trades[:1], 60).values()  # the stream left one out, as it does with a late one
        server.put(CANDLES, [candle_row(candle)])
        server.finish(start + timedelta(seconds=60))
        event = stream.until(lambda event: event.data["stored"])
        assert event.data["trades"] == 1
        send(7.0, pair, start_ns + 3)  # too late: it waits for a repair
        send(8.0, pair, start_ns + 60 * 10**9)
        event = stream.until(lambda event: True)
        assert (event.data["close"], event.data["trades"]) == (8.0, 1)
        [candle] = candles_of(trades, 60).values()
        server.put(CANDLES, [candle_row(candle)])  # the repair
        written_s = time.monotonic()
        assert stream.until(lambda event: event.data["stored"]).data["trades"] == 2
        seen_s = time.monotonic() - written_s
    report(f"from a row's write to the viewer: {seen_s * 1000:.0f} ms")
    assert seen_s < MOST_S


def test_who_reconnects_misses_nothing(server: Watched) -> None:
    pair = a_pair()
    start_ns = window_start_ns(server.now_ns(), 60)
    with server.sender() as send:
        with server.live(**asked(pair)) as stream:
            send(1.0, pair, start_ns + 1)
            seen = stream.until(lambda event: event.data["trades"] == 1)
        for number in range(2, 20):
            send(float(number), pair, start_ns + number)
        with server.live(last_id=seen.id, **asked(pair)) as stream:
            missed = stream.until(lambda event: event.data["trades"] == 19)
            last = send(99.0, pair, start_ns + 20)
            event = stream.until(lambda event: event.data["close"] == last.price)
    assert missed.data["close"] == 19.0
    assert event.data["trades"] == 20


def test_who_has_the_id_of_another_server_is_told_to_load_anew(server: Watched) -> None:
    pair = a_pair()
    with server.sender() as send, server.live(last_id="elsewhere-7", **asked(pair)) as stream:
        send(1.0, pair)
        kinds = [event.kind for event in islice(stream, 2)]
    assert kinds == ["reset", "candle"]


def test_one_viewer_watches_several_markets(server: Watched) -> None:
    one, other = a_pair(), a_pair()
    pairs = [f"{pair[1]}-USD" for pair in (one, other)]
    with server.sender() as send, server.live(market=["Coinbase", "Coinbase"], pair=pairs) as stream:
        send(1.0, one)
        send(2.0, other)
        coins = {event.data["fromcoin"] for event in islice(stream, 2)}
    assert coins == {one[1], other[1]}


def test_a_trade_too_far_ahead_is_left_to_the_repair_as_the_aggregation_leaves_it(server: Watched) -> None:
    pair = a_pair()
    with server.sender() as send, server.live(**asked(pair)) as stream:
        send(1.0, pair, server.now_ns() + 120 * 10**9)
        send(2.0, pair)
        assert stream.until(lambda event: True).data["close"] == 2.0


def test_a_longer_candle_forms_out_of_the_stored_minutes_and_the_trades(server: Watched) -> None:
    pair, midnight_ns = a_pair(), window_start_ns(server.now_ns(), DAY_S)
    early = [a_trade(number, 10.0 + number, pair, midnight_ns + number) for number in range(3)]
    [candle] = candles_of(early, 60).values()
    server.put(CANDLES, [candle_row(candle)])
    with server.sender() as send, server.live(**asked(pair), window=DAY_S) as stream:
        assert stream.until(lambda event: event.data["trades"] == 3).data["close"] == 12.0
        send(99.0, pair)
        data = stream.until(lambda event: event.data["trades"] == 4).data
    assert (data["open"], data["high"], data["low"], data["close"]) == (10.0, 99.0, 10.0, 99.0)
    assert (data["window_seconds"], data["stored"]) == (DAY_S, False)
    assert data["quantity"] == 0.08
