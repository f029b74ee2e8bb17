"""The REST of a replay tells the recording's trades, as far as it was replayed, as the market itself did."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import ConfigError
from cryptoflow.model.recording import Record, record_line
from cryptoflow.simulator import past as module
from cryptoflow.simulator.config import SimulatorConfig, VenueName
from cryptoflow.simulator.feed import frames as sent_frames
from cryptoflow.simulator.feed import venue_of
from cryptoflow.simulator.market import Traded
from cryptoflow.simulator.past import RecordedPast
from cryptoflow.simulator.venue import Exchange
from cryptoflow_tests.simulator.asking import START_S, admitted, exchange, said, told

PAIR = "Kraken", "BTC", "USD"


def traded(number: int, price: int = 15, decimals: int = 1) -> Traded:
    return Traded(PAIR, number, number, number * 10, price, decimals, 250, 2, buy=True)


numbers = st.integers(0, 50)


@given(st.lists(numbers), numbers, numbers)
def test_it_tells_what_it_was_given_once_and_in_order(given_: list[int], first: int, end: int) -> None:
    past = RecordedPast(PAIR)
    for number in given_:
        past.add(traded(number))
    kept = sorted(set(given_))
    assert list(past.between(first, end)) == [number for number in kept if first <= number < end]
    assert list(past.before(end)) == [number for number in kept if number < end][::-1]
    assert (past.first, past.next) == ((kept[0], kept[-1] + 1) if kept else (0, 0))
    assert [past.trade(number) for number in kept] == [traded(number) for number in kept]
    later = [number for number in kept if number * 10 >= first]
    assert past.at(first) == (later[0] if later else past.next)


def test_draws_have_the_decimals_of_the_finest_price() -> None:
    past = RecordedPast(PAIR)
    past.add(traded(1, 1500, 2))
    assert (past.price_decimals, past.draw(1).price) == (0, 15)
    past.add(traded(2, 1525, 2))
    assert (past.price_decimals, past.draws(0, 9).price.tolist()) == (2, [1500, 1525])
    assert past.draws(0, 9).quantity.tolist() == [250_000_000, 250_000_000]


def test_the_oldest_trades_of_a_long_recording_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 100)
    past = RecordedPast(PAIR)
    for number in range(1050):
        past.add(traded(number))
        assert len(list(past.between(0, 2000))) <= 200
    assert list(past.between(0, 2000))[-100:] == list(range(950, 1050))


def test_what_no_venue_could_say_is_left_out() -> None:
    past = RecordedPast(PAIR)
    for strange in (traded(2**63), traded(1, 2**64), traded(1, 1, 19), traded(-1), traded(1, -1)):
        past.add(strange)
    assert list(past.between(0, 2**64)) == []


def replayed(venue: VenueName, frames: list[bytes], path: Path) -> Exchange:
    """The venue after the replay of these frames."""
    records = [
        Record(received_ns=START_S * 10**9 + number * 250_000_000, venue=venue, frame=frame.decode())
        for number, frame in enumerate(frames)
    ]
    path.write_bytes(b"".join(map(record_line, records)))
    made = venue_of(SimulatorConfig(venue=venue, replay=path, speed=0), lambda: START_S * 10**9)
    assert isinstance(made, Exchange)
    while made.source.next_due_s() is not None:
        made.source.pull(())
    return made


@pytest.mark.parametrize(("venue", "request_"), [
    ("coinbase", {"type": "subscribe", "channels": ["matches"], "product_ids": ["B T-USD"]}),
    ("binance", {"method": "SUBSCRIBE", "params": ["b t~usdt@trade"], "id": 1}),
    ("kraken", {"method": "subscribe", "params": {"channel": "trade", "symbol": ["B T/USD"], "snapshot": True}}),
])  # fmt: skip
def test_a_name_that_no_pair_can_have_is_none_that_a_replay_has(
    venue: VenueName, request_: Any, tmp_path: Path
) -> None:
    client = admitted(replayed(venue, [], tmp_path / "frames.jsonl"))
    assert len(said(client, request_)) == 1
    assert [*client.subscriptions] == []


@pytest.mark.parametrize("pair", ["BTCUSD", "-USD", "B T-USD", "B~T-USD"])
def test_a_market_of_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(ConfigError, match="is no pair"):
        exchange("kraken", pairs=(pair,))


LAST = 2**53
TARGETS: dict[VenueName, list[str]] = {
    "coinbase": [f"/products/BTC-USD/trades?after={LAST}&limit=70", "/products/BTC-USD/candles?granularity=60"],
    "binance": [
        "/api/v3/historicalTrades?symbol=BTCUSDT&limit=1000",
        f"/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime={(START_S - 60) * 1000}",
        "/api/v3/exchangeInfo?symbol=BTCUSDT",
    ],
    "kraken": [f"/0/public/Trades?pair=XBTUSD&since={START_S - 60}", "/0/public/OHLC?pair=XBTUSD"],
}


def comparable(venue: VenueName, answer: Any) -> Any:
    """Kraken's REST tells more digits of a time than its websocket, Coinbase's more zeros of a quantity."""
    if venue == "coinbase":
        return [row | {"size": float(row["size"])} if isinstance(row, dict) else row for row in answer]
    rows = answer["result"].get("XXBTZUSD") if venue == "kraken" else None
    if rows:
        return [[value for place, value in enumerate(row) if place not in (2, 4)] for row in rows]
    return answer


@pytest.mark.parametrize(("venue", "target"), [(venue, target) for venue in TARGETS for target in TARGETS[venue]])
def test_the_rest_of_a_replay_answers_as_the_market_did(venue: VenueName, target: str, tmp_path: Path) -> None:
    live = exchange(venue, history_s=0.001, rate=0)
    frames = [live.source.pull(()).frame for _ in range(700)]
    again = replayed(venue, frames, tmp_path / "frames.jsonl")
    for symbol, pair in live.pairs.items():
        assert again.has(symbol)
        assert again.pairs[symbol] == pair
    found, wanted = told(again, target), told(live, target)
    if "OHLC" in target:
        found, wanted = ([row for row in each["result"]["XXBTZUSD"] if row[7]] for each in (found, wanted))
        assert found == wanted
        return
    if "exchangeInfo" in target:
        assert [each["symbol"] for each in found["symbols"]] == ["BTCUSDT"]
        return
    assert comparable(venue, found) == comparable(venue, wanted)
    assert len(msgspec.json.encode(found)) > 200


@pytest.mark.parametrize("venue", TARGETS)
def test_an_empty_past_is_no_error(venue: VenueName, tmp_path: Path) -> None:
    again = replayed(venue, [], tmp_path / "frames.jsonl")
    for symbol in ("BTC-USD", "BTCUSDT", "BTC/USD"):
        again.has(symbol)
    for target in TARGETS[venue]:
        assert told(again, target) is not None


def test_a_recording_of_several_venues_is_each_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    made = {venue: exchange(venue).source.pull(()).frame for venue in TARGETS}
    records = [Record(received_ns=1, venue=venue, frame=frame.decode()) for venue, frame in made.items()]
    path.write_bytes(b"".join(map(record_line, records)))
    subscriptions = ["0~Coinbase~BTC~USD", "0~Binance~BTC~USDT", "0~Kraken~BTC~USD"]
    subscriptions += ["0~Coinbase~ETH~USD", "0~Binance~ETH~USDT", "0~Kraken~ETH~USD"]
    for venue, frame in made.items():
        assert list(sent_frames(SimulatorConfig(venue=venue, replay=path, speed=0), subscriptions)) == [frame]
    with pytest.raises(ConfigError, match="no frame of cryptocompare; it is of binance, coinbase, kraken"):
        list(sent_frames(SimulatorConfig(replay=path, speed=0), subscriptions))
