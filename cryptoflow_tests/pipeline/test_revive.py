"""Dead letters are read by the reader of who sent them, and what can be read gets into the topic of trades."""

import time

import pytest
from typer.testing import CliRunner

from cryptoflow.cli import app
from cryptoflow.kafka_io.dead_letters import DeadLetter, dead_letters
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Trade, read_trade, write_trade
from cryptoflow.pipeline.revive import Reader, revive
from cryptoflow.settings import KafkaSettings
from cryptoflow.venues.events import Unreadable
from cryptoflow_tests.feeds.serving import deal
from cryptoflow_tests.topics import read_topic
from cryptoflow_tests.venues.speaking import KRAKEN, TONGUES, Tongue, dumped, kraken_trade

READER = Reader([tongue.sub for tongue in TONGUES])
NOW_S = 1_800_000_000.0

each_venue = pytest.mark.parametrize("tongue", TONGUES, ids=lambda tongue: tongue.venue.name)


def letter(frame: bytes, venue: str = "") -> DeadLetter:
    return DeadLetter(0, 0, frame, "was broken", "feed", venue)


@each_venue
def test_a_venues_frame_is_read_as_its_session_reads_it(tongue: Tongue) -> None:
    frame = tongue.frame(deal(7))
    trades, reason = READER.read(letter(frame, tongue.venue.name), NOW_S)
    assert (trades, reason) == (tongue.venue.session([tongue.sub]).receive(frame, NOW_S)[0], "")
    assert len(trades) == 1


@each_venue
def test_a_venues_frame_without_its_name_is_nobodys(tongue: Tongue) -> None:
    assert READER.read(letter(tongue.frame(deal(7))), NOW_S)[0] == ()


def test_what_no_venue_sent_is_read_as_a_record_of_the_topic() -> None:
    trade = Trade("Nowhere", "BTC", "USD", "1", "7", 1_700_000_000, 1.0, 2.0, 2.0)
    assert READER.read(letter(write_trade(trade)), NOW_S) == (((trade, write_trade(trade)),), "")


@pytest.mark.parametrize(
    ("frame", "venue", "reason"),
    [
        (b"Bad Gateway", "coinbase", "malformed"),
        (KRAKEN.accepted, "kraken", "holds no trade"),
        (KRAKEN.frame(deal(7)).replace(b"BTC/USD", b"ETH/USD"), "kraken", "ETH/USD is not subscribed"),
        (b'{"TYPE":"401","MESSAGE":"UNAUTHORIZED"}', "cryptocompare", "refused the API key"),
    ],
)
def test_what_still_cant_be_read_tells_why(frame: bytes, venue: str, reason: str) -> None:
    trades, said = READER.read(letter(frame, venue), NOW_S)
    assert not trades
    assert reason in said


def test_a_row_of_rest_is_asked_for_again_and_not_read_alone() -> None:
    row = letter(KRAKEN.frame(deal(7)), "kraken")._replace(source="rest")
    assert READER.read(row, NOW_S) == ((), "a row of REST, whose answer is asked for again")


def test_a_bad_trade_out_of_a_frame_of_many_is_a_frame_that_can_be_read_again() -> None:
    early, far = deal(1), deal(2)._replace(time_ns=deal(2).time_ns + 10**9 * 10**6)
    frame = dumped({"channel": "trade", "type": "update", "data": [kraken_trade(early), kraken_trade(far)]})
    session = KRAKEN.venue.session([KRAKEN.sub])
    _, [bad] = session.receive(frame, early.time_ns / 1e9)
    assert isinstance(bad, Unreadable)
    [(trade, _)], reason = READER.read(letter(bad.frame, "kraken"), far.time_ns / 1e9)
    assert (trade.id, reason) == ("2", "")


@pytest.fixture
def kafka(kafka_bootstrap: str, topic: str) -> KafkaSettings:
    made = KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic)
    make_topics(made)
    return made


def test_trades_of_all_venues_are_in_the_topic_after_a_replay_whoever_repeats_it(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TradeProducer(kafka) as producer:
        for tongue in TONGUES:
            producer.dead_letter(tongue.frame(deal(7)), "was not known", venue=tongue.venue.name)
        producer.dead_letter(b"Bad Gateway", "no JSON", venue="kraken")
    found = list(dead_letters(kafka))
    assert [(each.venue, each.source) for each in found][-1] == ("kraken", "feed")
    assert list(dead_letters(kafka, last=2)) == found[-2:]
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("KAFKA_TOPIC", kafka.topic)
    monkeypatch.setenv("CRYPTOFLOW_SUBSCRIPTIONS", ",".join(tongue.sub for tongue in TONGUES))
    shown = CliRunner().invoke(app, ["deadletters", "list", "--venue", "kraken"]).output
    assert "Bad Gateway" in shown
    assert "can be read" in shown
    assert "gemini" not in shown
    said = CliRunner().invoke(app, ["deadletters", "replay"]).output
    assert "4 of 5 dead letters can be read now; their 4 trades" in said
    again = revive(kafka, dead_letters(kafka), READER)
    assert (again.letters, again.readable, again.trades) == (5, 4, 4)
    trades = [read_trade(record.value) for record in read_topic(kafka, kafka.topic)]
    assert len(trades) == 8
    assert {trade.identity for trade in trades} == {(*tongue.pair, "7") for tongue in TONGUES}
    assert all(trade.time_s < time.time() for trade in trades)
