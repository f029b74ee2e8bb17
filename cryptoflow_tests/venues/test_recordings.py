"""Frames that were recorded from the venues themselves, read by their sessions."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cryptoflow.model.candle import candles_of
from cryptoflow.model.trade import Trade, read_trade
from cryptoflow.model.window import EPOCH
from cryptoflow.venues import VENUES
from cryptoflow.venues.events import Event, Other, Recorded, Subscribed, Unreadable
from cryptoflow_tests.venues.speaking import dumped

LATER_S = 1_900_000_000.0
WINDOW_S = 60


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data"


def lines(file: Path) -> Iterator[bytes]:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as found:
        yield from found


def sent(file: Path) -> Iterator[bytes]:
    """The frames that a venue sent, in cryptofeed's recordings: `TIME: FRAME`."""
    for line in lines(file):
        time, found, frame = line.strip().partition(b": ")
        if found and b"<-" not in time and b"<->" not in line:
            yield frame


def read(venue: str, subscriptions: list[str], frames: Iterator[bytes]) -> tuple[list[Recorded], list[Event]]:
    """All trades and all events; each frame has one."""
    session = VENUES[venue].session(subscriptions)
    trades: list[Recorded] = []
    events: list[Event] = []
    for frame in frames:
        some, others = session.receive(frame, LATER_S)
        assert len(some) + len(others) > 0
        trades += some
        events += others
    return trades, events


def trades_of(recorded: list[Recorded]) -> list[Trade]:
    return [trade for trade, _ in recorded]


def binance(*files: Path) -> tuple[list[Recorded], list[Event]]:
    frames = (line.split(b" ", 1)[1] for file in files for line in lines(file))
    return read("binance", ["0~Binance~BTC~USDT"], frames)


def test_binances_day_change_comes_out_without_a_hole_and_as_it_is_replayed(data: Path, shared: Path) -> None:
    recorded, events = binance(*sorted((data / "hftbacktest").glob("spot_*.gz")))
    trades = trades_of(recorded)
    ids = [int(trade.id) for trade in trades]
    assert ids == list(range(ids[0], ids[0] + 19_904))
    [stranger] = [event for event in events if not isinstance(event, Other)]
    assert isinstance(stranger, Unreadable)
    assert stranger.frame.startswith(b'{"lastUpdateId"')  # the recorder put REST's order book between the frames
    replayed = [read_trade(line) for line in lines(shared / "replay" / "binance-spot-btcusdt-midnight.jsonl.gz")]
    assert candles_of(trades, WINDOW_S) == candles_of(replayed, WINDOW_S)


def test_binances_candles_are_the_venues_own(data: Path) -> None:
    recorded, _ = binance(data / "hftbacktest" / "usdm_btcusdt_20240808.gz")
    [file] = (data / "binance-vision-klines").glob("*.csv")
    with file.open() as rows:
        klines = {EPOCH + timedelta(milliseconds=int(row["open_time"])): row for row in csv.DictReader(rows)}
    made = {candle.window_start: candle for candle in candles_of(trades_of(recorded), WINDOW_S).values()}
    full = [start for start in sorted(made) if start in klines][1:]  # the recording starts within its first minute
    assert len(full) == 5
    for start in full:
        candle, kline = made[start], klines[start]
        for name in ("open", "high", "low", "close"):
            assert getattr(candle, name) == float(kline[name])
        assert candle.trades == int(kline["count"])
    exact = exact_sums(recorded)
    for start in full:
        volume, quote, taker, taker_quote = exact[start]
        assert volume == Fraction(klines[start]["volume"])
        assert quote == Fraction(klines[start]["quote_volume"])
        assert taker == Fraction(klines[start]["taker_buy_volume"])
        assert taker_quote == Fraction(klines[start]["taker_buy_quote_volume"])


def exact_sums(recorded: list[Recorded]) -> dict[Any, list[Fraction]]:
    """(quantity, total, quantity bought, total bought) of each window, of the records' own digits."""
    sums: dict[Any, list[Fraction]] = {}
    for trade, record in recorded:
        exact = json.loads(record, parse_float=Fraction, parse_int=Fraction)
        start = EPOCH + timedelta(seconds=trade.time_s - trade.time_s % WINDOW_S)
        window = sums.setdefault(start, [Fraction()] * 4)
        bought = trade.direction == "BUY"
        for place, amount in enumerate((exact["Q"], exact["TOTAL"], exact["Q"] * bought, exact["TOTAL"] * bought)):
            window[place] += amount
    return sums


def test_coinbases_sides_are_the_takers_of_its_own_ticker(data: Path) -> None:
    frames = list(sent(data / "cryptofeed" / "COINBASE.ws.28.0.gz"))
    said = [json.loads(frame) for frame in frames]
    products = {each["product_id"] for each in said if each["type"] in ("match", "last_match")}
    subscriptions = [f"0~Coinbase~{product.replace('-', '~')}" for product in sorted(products)]
    recorded, events = read("coinbase", subscriptions, iter(frames))
    taker = {
        (each["product_id"], str(each["trade_id"])): each["side"].upper()
        for each in said
        if each["type"] == "ticker" and "trade_id" in each
    }
    sides = {(f"{trade.from_coin}-{trade.to_currency}", trade.id): trade.direction for trade in trades_of(recorded)}
    matches = {(each["product_id"], str(each["trade_id"])) for each in said if each["type"] in ("match", "last_match")}
    proven = matches & taker.keys()
    assert len(proven) == 107 == sum(sides[key] == taker[key] for key in proven)
    assert {event for event in events if isinstance(event, Subscribed)} == set(map(Subscribed, subscriptions))
    assert not [event for event in events if isinstance(event, Unreadable)]
    by_product: dict[str, list[int]] = {}
    for product, id_ in sides:
        by_product.setdefault(product, []).append(int(id_))
    assert all(ids == list(range(ids[0], ids[0] + len(ids))) for ids in by_product.values())


@pytest.mark.parametrize(
    ("file", "venue", "subscriptions", "trades"),
    [
        ("coinbase-exchange/frames.jsonl", "coinbase", ["BTC~USD", "ADA~EUR", "ETH~USD"], 3),
        ("kraken-v2/frames.jsonl", "kraken", ["BTC~USD", "MATIC~USD"], 3),
    ],
)
def test_single_frames_of_the_venues_are_read(
    data: Path, file: str, venue: str, subscriptions: list[str], trades: int
) -> None:
    frames = (dumped(json.loads(line, parse_float=str)["msg"]) for line in lines(data / file))
    market = VENUES[venue].market
    recorded, events = read(venue, [f"0~{market}~{pair}" for pair in subscriptions], frames)
    assert len(recorded) == trades
    assert not [event for event in events if isinstance(event, Unreadable)]


@pytest.mark.parametrize(("file", "venue"), [("BINANCE.ws.1.0", "binance"), ("KRAKEN.ws.48.0", "kraken")])
def test_frames_of_other_streams_and_of_an_older_protocol_are_no_trades(data: Path, file: str, venue: str) -> None:
    frames = list(sent(data / "cryptofeed" / file))
    recorded, events = read(venue, [f"0~{VENUES[venue].market}~BTC~USDT"], iter(frames))
    assert not recorded
    assert len(events) == len(frames) > 8


@pytest.mark.parametrize(("kind", "missing", "twice"), [("positive", [], []), ("negative", [348656872], [348656871])])
def test_ten_thousand_trades_in_microseconds_have_the_faults_that_were_put_in(
    data: Path, kind: str, missing: list[int], twice: list[int]
) -> None:
    [file] = (data / "daniellasota").glob(f"test_{kind}_*.gz")
    rows = csv.DictReader(line.decode() for line in lines(file))
    recorded, events = read("binance", ["0~Binance~TRX~USDT"], map(frame_of, rows))
    ids = Counter(int(trade.id) for trade in trades_of(recorded))
    assert not events
    assert [id_ for id_, count in ids.items() if count > 1] == twice
    assert sorted({*range(min(ids), max(ids) + 1)} - ids.keys()) == missing
    assert trades_of(recorded)[0].event_time_ns == 1_741_046_401_271_497_000


def frame_of(row: dict[str, str]) -> bytes:
    return dumped(
        {
            "stream": row["Stream"],
            "data": {
                "e": row["EventType"], "E": int(row["EventTime"]), "s": row["Symbol"], "t": int(row["TradeId"]),
                "p": row["Price"], "q": row["Quantity"], "T": int(row["TransactionTime"]),
                "m": row["IsBuyerMarketMaker"] == "1", "M": True,
            },
        }
    )  # fmt: skip
