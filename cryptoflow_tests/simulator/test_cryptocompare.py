"""Laws of what the feed answers, without any socket."""

from typing import Any

import msgspec
import pytest

from cryptoflow.simulator.cryptocompare import (
    REPLAYED_TRADES,
    Connects,
    History,
    StreamerSubscriber,
    api_key_of,
    control,
    force_disconnect,
    heartbeat,
    refusal,
    welcome,
)
from cryptoflow.simulator.events import Event, Kind
from cryptoflow.simulator.faults import Faults

BTC = "0~Coinbase~BTC~USD"
ETH = "0~Coinbase~ETH~USD"

PERIODS = ("SECOND", "MINUTE", "HOUR", "DAY", "MONTH")

REAL_WELCOME = [
    *(
        "TYPE",
        "MESSAGE",
        "SERVER_UPTIME_SECONDS",
        "SERVER_NAME",
        "SERVER_TIME_MS",
        "CLIENT_ID",
        "DATA_FORMAT",
    ),
    *("SOCKET_ID", "SOCKETS_ACTIVE", "SOCKETS_REMAINING"),
    *(f"RATELIMIT_MAX_{period}" for period in PERIODS),
    *(f"RATELIMIT_REMAINING_{period}" for period in PERIODS),
]


def session(faults: Faults | None = None, history: History | None = None) -> StreamerSubscriber:
    return StreamerSubscriber(faults or Faults(), history or History())


def ask(to: StreamerSubscriber, **request: object) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event.frame) for event in to.receive(msgspec.json.encode(request))]


def add(to: StreamerSubscriber, *subs: str) -> list[dict[str, Any]]:
    return ask(to, action="SubAdd", subs=list(subs))


def kinds(answers: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(answer["TYPE"], answer["MESSAGE"]) for answer in answers]


def traded(history: History, count: int, subscription: str = BTC) -> list[bytes]:
    frames = [b"trade %d" % number for number in range(count)]
    for frame in frames:
        history.add(Event(frame, subscription, 0))
    return frames


def test_a_subscription_is_answered_for_each_and_then_loaded() -> None:
    client = session()
    answers = add(client, BTC, ETH)
    assert [(answer["TYPE"], answer.get("SUB")) for answer in answers] == [
        ("16", BTC),
        ("16", ETH),
        ("3", None),
    ]
    assert client.subscriptions == (BTC, ETH)


@pytest.mark.parametrize("count", [0, 3, REPLAYED_TRADES, 55])
def test_a_new_subscription_gets_the_last_trades_as_they_were_sent(count: int) -> None:
    history = History()
    frames = traded(history, count)
    traded(history, 5, ETH)
    events = session(history=history).receive(msgspec.json.encode({"action": "SubAdd", "subs": [BTC]}))
    repeats = events[1:-1]
    assert [event.frame for event in repeats] == frames[-REPLAYED_TRADES:]
    assert {event.kind for event in repeats} <= {Kind.DUPLICATE}
    assert events[0].kind is events[-1].kind is Kind.CONTROL


def test_history_keeps_no_duplicates_and_no_broken_frames() -> None:
    history = History()
    for kind in (Kind.DUPLICATE, Kind.MALFORMED, Kind.CONTROL):
        history.add(Event(b"", BTC, 0, kind))
    assert history.repeats(BTC) == []


@pytest.mark.parametrize(
    ("frame", "message", "parameter"),
    [
        (b"", "INVALID_JSON", "format"),
        (b"{", "INVALID_JSON", "format"),
        (b"\xff", "INVALID_JSON", "format"),
        (b"[1]", "INVALID_JSON", "format"),
        (b"{}", "INVALID_PARAMETER", "action"),
        (b'{"action": "Sub"}', "INVALID_PARAMETER", "action"),
        (b'{"action": ["SubAdd"], "subs": ["0~A~B~C"]}', "INVALID_PARAMETER", "action"),
        (b'{"action": "SubAdd"}', "INVALID_PARAMETER", "subs"),
        (b'{"action": "SubAdd", "subs": []}', "INVALID_PARAMETER", "subs"),
        (b'{"action": "SubAdd", "subs": "0~A~B~C"}', "INVALID_PARAMETER", "subs"),
        (b'{"action": "SubRemove", "subs": [1]}', "INVALID_PARAMETER", "subs"),
    ],
)
def test_a_wrong_request_gets_one_error_that_names_what_is_wrong(frame: bytes, message: str, parameter: str) -> None:
    client = session()
    (answer,) = (msgspec.json.decode(event.frame) for event in client.receive(frame))
    assert (answer["TYPE"], answer["MESSAGE"], answer["PARAMETER"]) == ("500", message, parameter)
    assert answer["INFO"]
    assert add(client, BTC)[0]["TYPE"] == "16"


@pytest.mark.parametrize(
    "sub",
    [
        "",
        "BTC",
        "0~Coinbase~BTC",
        "0~~BTC~USD",
        "2~Coinbase~BTC~USD",
        "0~a~b~c~d",
        "0~A B~C~D",
        "0~A~B~" + "C" * 65,
    ],
)
def test_a_wrong_subscription_is_refused_and_the_others_go_on(sub: str) -> None:
    client = session()
    answers = add(client, sub, BTC)
    assert kinds(answers) == [("500", "INVALID_SUB"), ("16", "SUBSCRIBECOMPLETE"), ("3", "LOADCOMPLETE")]
    assert answers[0]["PARAMETER"] == sub
    assert client.subscriptions == (BTC,)


def test_a_subscription_named_in_the_faults_is_refused() -> None:
    client = session(Faults(refused_subscriptions=(BTC,)))
    answers = add(client, BTC, ETH)
    assert (answers[0]["MESSAGE"], answers[0]["PARAMETER"]) == ("INVALID_SUB", BTC)
    assert client.subscriptions == (ETH,)


def test_a_second_subscription_to_the_same_is_refused_and_the_first_stays() -> None:
    client = session()
    add(client, BTC)
    assert kinds(add(client, BTC))[0] == ("500", "SUBSCRIPTION_ALREADY_ACTIVE")
    assert client.subscriptions == (BTC,)


def test_subscriptions_beyond_the_limit_are_refused() -> None:
    client = session(Faults(max_subscriptions=1))
    answers = add(client, BTC, ETH)
    assert kinds(answers)[1] == ("429", "TOO_MANY_SUBSCRIPTIONS_MAX_1_PER_SOCKET")
    assert client.subscriptions == (BTC,)


def test_a_removal_is_answered_for_each_and_then_for_all() -> None:
    client = session()
    add(client, BTC, ETH)
    answers = ask(client, action="SubRemove", subs=[BTC, "0~Kraken~BTC~USD"])
    assert kinds(answers) == [
        ("17", "UNSUBSCRIBECOMPLETE"),
        ("500", "SUBSCRIPTION_UNRECOGNIZED"),
        ("18", "UNSUBSCRIBEALLCOMPLETE"),
    ]
    assert answers[0]["SUB"] == BTC
    assert answers[2]["INFO_OBJ"] == {"valid": 1, "invalid": 1}
    assert client.subscriptions == (ETH,)


def test_the_welcome_has_the_fields_of_the_real_one() -> None:
    connects = Connects()
    connects.add(100.0)
    frame = welcome(
        Faults(max_sockets=3),
        connects,
        1,
        now_s=100.5,
        uptime_s=7.9,
        time_ms=1_753_184_197_855,
        socket_id="abc",
    )
    fields = msgspec.json.decode(frame)
    assert list(fields) == REAL_WELCOME
    assert (fields["TYPE"], fields["MESSAGE"]) == ("20", "STREAMERWELCOME")
    assert (fields["SOCKETS_ACTIVE"], fields["SOCKETS_REMAINING"]) == (1, 2)
    assert (fields["RATELIMIT_MAX_MINUTE"], fields["RATELIMIT_REMAINING_MINUTE"]) == (60, 59)
    assert fields["SERVER_UPTIME_SECONDS"] == 7


def test_heartbeat_and_forced_disconnect_have_the_feeds_form() -> None:
    assert heartbeat(1582817678330) == b'{"TYPE":"999","MESSAGE":"HEARTBEAT","TIMEMS":1582817678330}'
    assert msgspec.json.decode(force_disconnect())["MESSAGE"] == "FORCE_DISCONNECT"
    assert control("3", "LOADCOMPLETE", INFO="x") == b'{"TYPE":"3","MESSAGE":"LOADCOMPLETE","INFO":"x"}'


def test_connects_are_counted_within_the_last_seconds_only() -> None:
    connects = Connects()
    for now_s in (0.0, 30.0, 70.0):
        connects.add(now_s)
    assert [connects.within(60, now_s) for now_s in (70.0, 89.0, 90.0, 130.0)] == [2, 2, 1, 0]


@pytest.mark.parametrize(
    ("faults", "key", "last_minute", "active", "refused"),
    [
        (Faults(), None, 1000, 1000, None),
        (Faults(api_keys=("good",)), "good", 0, 0, None),
        (Faults(api_keys=("good",)), "bad", 0, 0, ("401", "UNAUTHORIZED")),
        (Faults(api_keys=("good",)), None, 0, 0, ("401", "UNAUTHORIZED")),
        (Faults(max_connects_per_minute=2), None, 1, 0, None),
        (Faults(max_connects_per_minute=2), None, 2, 0, ("429", "RATE_LIMIT_OPENING_SOCKETS_TOO_FAST")),
        (Faults(max_sockets=1), None, 0, 0, None),
        (Faults(max_sockets=1), None, 0, 1, ("429", "TOO_MANY_SOCKETS_MAX_1_PER_CLIENT")),
    ],
)
def test_who_is_let_in(
    faults: Faults, key: str | None, last_minute: int, active: int, refused: tuple[str, str] | None
) -> None:
    frame = refusal(faults, key, last_minute, active)
    assert refused == (None if frame is None else kinds([msgspec.json.decode(frame)])[0])
    assert frame is None or b"bad" not in frame


@pytest.mark.parametrize(
    ("target", "headers", "key"),
    [
        ("/v2?api_key=K1", {}, "K1"),
        ("/?format=json&api_key=K%2B1", {}, "K+1"),
        ("/v2", {"Authorization": "Apikey K2"}, "K2"),
        ("/v2?api_key=K1", {"Authorization": "Apikey K2"}, "K1"),
        ("/v2?api_key=", {}, None),
        ("/v2", {"Authorization": "Basic K2"}, None),
        ("/v2", {}, None),
    ],
)
def test_the_key_comes_from_the_address_or_the_header(target: str, headers: dict[str, str], key: str | None) -> None:
    assert api_key_of(target, headers) == key
