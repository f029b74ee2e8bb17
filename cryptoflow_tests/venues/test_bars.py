"""The venues' own candles, as their simulators tell them: those of all trades."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import pytest

from cryptoflow.errors import FeedBusyError, FeedDisconnectedError, FeedRefusedError
from cryptoflow.model.candle import candles_of
from cryptoflow.model.parity import MINUTE_S, Bar
from cryptoflow.model.trade import Pair
from cryptoflow.simulator.config import VenueName
from cryptoflow.simulator.rest import Request
from cryptoflow.simulator.venue import Exchange
from cryptoflow.venues import VENUES
from cryptoflow.venues.past import Answer
from cryptoflow_tests.simulator.asking import START_S, exchange

FIRST_S = START_S // MINUTE_S * MINUTE_S - 3600
LAST_S = FIRST_S + 1800

each_venue = pytest.mark.parametrize("name", ["coinbase", "binance", "kraken"])


def pair_of(name: str) -> Pair:
    return str(VENUES[name].market), "BTC", "USDT" if name == "binance" else "USD"


def bars(simulated: Exchange, name: str, first_s: int = FIRST_S, last_s: int = LAST_S) -> dict[int, Bar]:
    """The candles that the venue tells, by their minutes."""
    venue = VENUES[name]
    told = simulated.tell(Request(venue.bars_target(pair_of(name), first_s, last_s), "::1"))
    answer = Answer(told.body, told.status, {key.lower(): text for key, text in told.headers.items()})
    return {bar.start_s: bar for bar in venue.read_bars(answer)}


@each_venue
def test_a_venue_tells_the_candles_of_its_trades(name: VenueName) -> None:
    simulated = exchange(name, 100, history_rate=0.05)
    tape = simulated.tape(pair_of(name))
    numbers = tape.between(tape.at(FIRST_S * 10**9), tape.at(LAST_S * 10**9))
    candles = candles_of([tape.trade(number).trade() for number in numbers], MINUTE_S).values()
    wanted = {int(candle.window_start.timestamp()): candle for candle in candles}
    found = bars(simulated, name)
    minutes = range(FIRST_S, LAST_S, MINUTE_S)
    assert 0 < len(wanted) < len(minutes)
    for minute in minutes:
        if minute not in wanted:
            assert not VENUES[name].tells_empty_bars or found[minute].quantity == 0
            assert VENUES[name].tells_empty_bars or minute not in found
            continue
        bar, candle = found[minute], wanted[minute]
        assert bar.trades in (candle.trades, None if name == "coinbase" else candle.trades)
        assert abs(Decimal(candle.quantity) - bar.quantity) < Decimal("1e-9")
        prices = (candle.open, candle.high, candle.low, candle.close)
        assert tuple(map(float, (bar.open, bar.high, bar.low, bar.close))) == prices


@each_venue
def test_a_full_answer_is_asked_for_at_once_and_understood_by_the_venue(name: VenueName) -> None:
    most = VENUES[name].most_bars
    simulated = exchange(name, 10, history_s=2 * 86_400, history_rate=0.5)
    first_s = START_S // MINUTE_S * MINUTE_S - most * MINUTE_S
    assert len(bars(simulated, name, first_s, first_s + most * MINUTE_S)) > 0.9 * most


def test_kraken_leaves_the_minute_out_that_is_still_open() -> None:
    simulated = exchange("kraken", 100)
    newest = simulated.now_ns() // 10**9 // MINUTE_S * MINUTE_S
    assert max(bars(simulated, "kraken", newest - 600, newest + MINUTE_S)) == newest - MINUTE_S


def test_the_targets_are_the_official_ones() -> None:
    first, last = (f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}" for at_s in (FIRST_S, LAST_S - 60))
    millis = {"startTime": f"{FIRST_S}000", "endTime": f"{LAST_S * 1000 - 1}"}
    wanted = {
        "coinbase": ("/products/BTC-USD/candles", {"granularity": "60", "start": first, "end": last}),
        "binance": ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", **millis, "limit": "1000"}),
        "kraken": ("/0/public/OHLC", {"pair": "XBTUSD", "interval": "1", "since": f"{FIRST_S - 60}"}),
    }
    for name, (path, query) in wanted.items():
        url = urlsplit(VENUES[name].bars_target(pair_of(name), FIRST_S, LAST_S))
        assert (url.path, dict(parse_qsl(url.query))) == (path, query)


@each_venue
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(b"slow down", 429), FeedBusyError),
        (Answer(b"", 503), FeedDisconnectedError),
        (Answer(b"[[1]]"), FeedDisconnectedError),
        (Answer(b'{"error":[],"result":{"X":[[1,2]],"last":1}}'), FeedDisconnectedError),
        (Answer(b"{}", 404), FeedRefusedError),
    ],
)
def test_what_is_no_candle_is_an_error(name: str, answer: Answer, error: type[Exception]) -> None:
    with pytest.raises(error):
        VENUES[name].read_bars(answer)


@each_venue
@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-1", "1e19", "1e999999999"])
def test_a_candle_of_what_is_no_amount_is_an_error(name: VenueName, amount: str) -> None:
    told = exchange(name, 100).tell(Request(VENUES[name].bars_target(pair_of(name), FIRST_S, LAST_S), "::1"))
    body = json.loads(told.body)
    rows = body["result"]["XXBTZUSD"] if name == "kraken" else body
    rows[3][4] = amount
    with pytest.raises(FeedDisconnectedError, match="no amount"):
        VENUES[name].read_bars(Answer(json.dumps(body).encode()))


def test_a_venue_that_is_not_asked_says_so() -> None:
    assert VENUES["gemini"].most_bars == 0
    with pytest.raises(FeedRefusedError, match="gemini gives no candles"):
        VENUES["gemini"].bars_target(("Gemini", "BTC", "USD"), 0, 60)
