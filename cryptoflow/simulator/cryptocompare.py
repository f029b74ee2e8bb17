"""CryptoCompare's feed as its server speaks it, without any I/O: frames in, frames out.

Format: CryptoCompare streamer v2. No body of a real 429 or 500 is known; here they carry PARAMETER and INFO
as the 401 does.
"""

import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

import msgspec

from cryptoflow.model.trade import DECODE_ERRORS
from cryptoflow.simulator import venue
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.events import FRESH, Event, Kind, pair_of
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.generator import Generator
from cryptoflow.simulator.replay import Replay, trade_event
from cryptoflow.simulator.stages import Fields
from cryptoflow.simulator.venue import Arrival, Venue

REPLAYED_TRADES = 20
"""How many of a pair's last trades a new subscription gets."""

RATE_LIMITS = {
    "SECOND": (1, 30),
    "MINUTE": (60, 60),
    "HOUR": (3600, 1200),
    "DAY": (86_400, 10_000),
    "MONTH": (2_592_000, 20_000),
}
"""The feed's limits of sockets opened: name to (seconds, sockets)."""

SOCKETS_PER_CLIENT = 1000
"""What the welcome says if there is no limit."""


def control(type_: str, message: str, **fields: object) -> bytes:
    """A frame that is no trade."""
    return msgspec.json.encode({"TYPE": type_, "MESSAGE": message} | fields)


def error(message: str, parameter: str, info: str) -> bytes:
    """A frame that says what a request lacks; the socket stays up."""
    return control("500", message, PARAMETER=parameter, INFO=info)


def heartbeat(now_ms: int) -> bytes:
    """A sign of life; `now_ms` since the epoch."""
    return control("999", "HEARTBEAT", TIMEMS=now_ms)


def force_disconnect() -> bytes:
    """What comes before the feed closes the socket."""
    return control("500", "FORCE_DISCONNECT", INFO="The simulator was asked to force a disconnect; connect again.")


def api_key_of(target: str, headers: Mapping[str, str]) -> str | None:
    """The key in a request, from its target (`/v2?api_key=KEY`) or its header `authorization: Apikey KEY`."""
    for key in parse_qs(urlsplit(target).query).get("api_key", ()):
        return key
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "apikey" and key.strip() else None


class Connects:
    """When sockets were opened, for the rate limits; times in s, from any monotonic clock."""

    def __init__(self) -> None:
        self._opened_s: deque[float] = deque(maxlen=RATE_LIMITS["MONTH"][1])

    def add(self, now_s: float) -> None:
        """Counts a socket that was let in."""
        self._opened_s.append(now_s)

    def within(self, seconds: float, now_s: float) -> int:
        """How many were let in during the last `seconds`."""
        return sum(opened_s > now_s - seconds for opened_s in self._opened_s)


def refusal(faults: Faults, api_key: str | None, last_minute: int, active: int) -> bytes | None:
    """What a client gets in place of the welcome, before the close; None: it is let in.

    Args:
        last_minute: sockets let in during the last minute.
        active: sockets open now.
    """
    if faults.api_keys is not None and api_key not in faults.api_keys:
        info = "We only support JSON format with a valid api_key."
        return control("401", "UNAUTHORIZED", PARAMETER="format", INFO=info)
    if faults.max_connects_per_minute is not None and last_minute >= faults.max_connects_per_minute:
        limits = {f"RATELIMIT_MAX_{name}": most for name, (_, most) in RATE_LIMITS.items()}
        return control("429", "RATE_LIMIT_OPENING_SOCKETS_TOO_FAST", INFO="Wait before you connect again.", **limits)
    if faults.max_sockets is not None and active >= faults.max_sockets:
        message = f"TOO_MANY_SOCKETS_MAX_{faults.max_sockets}_PER_CLIENT"
        return control("429", message, INFO="Close another socket first.")
    return None


def welcome(
    faults: Faults,
    connects: Connects,
    active: int,
    *,
    now_s: float,
    uptime_s: float,
    time_ms: int,
    socket_id: str,
) -> bytes:
    """The first frame of a socket that is let in.

    Args:
        active: sockets open now, this one included.
        now_s: the clock of `connects`.
        time_ms: the wall clock.
    """
    used = {name: connects.within(seconds, now_s) for name, (seconds, _) in RATE_LIMITS.items()}
    return control(
        "20",
        "STREAMERWELCOME",
        SERVER_UPTIME_SECONDS=int(uptime_s),
        SERVER_NAME="simulator",
        SERVER_TIME_MS=time_ms,
        CLIENT_ID=1,
        DATA_FORMAT="JSON",
        SOCKET_ID=socket_id,
        SOCKETS_ACTIVE=active,
        SOCKETS_REMAINING=max(0, (faults.max_sockets or SOCKETS_PER_CLIENT) - active),
        **{f"RATELIMIT_MAX_{name}": most for name, (_, most) in RATE_LIMITS.items()},
        **{f"RATELIMIT_REMAINING_{name}": max(0, most - used[name]) for name, (_, most) in RATE_LIMITS.items()},
    )


class History:
    """The last trades of each pair, as they were sent."""

    def __init__(self) -> None:
        self._last: dict[str, deque[Event]] = {}

    def add(self, event: Event) -> None:
        """Remembers an event if it is a trade sent for the first time."""
        if event.kind in FRESH and event.subscription is not None:
            self._last.setdefault(event.subscription, deque(maxlen=REPLAYED_TRADES)).append(event)

    def repeats(self, subscription: str) -> list[Event]:
        """The frames that a new subscription gets: those sent before, oldest first."""
        return [event._replace(kind=Kind.DUPLICATE) for event in self._last.get(subscription, ())]


class CryptoCompare(Venue):
    """The feed. Its stream stands still while nobody is subscribed."""

    name = "CryptoCompare"
    path = "/v2"
    heartbeat_s = 30.0
    fields = Fields((), "P", "ID", "TS")

    def __init__(self, config: SimulatorConfig, clock_ns: Callable[[], int]) -> None:
        super().__init__(config, clock_ns)
        self.source = (
            Generator(config, clock_ns)
            if config.replay is None
            else Replay(config.replay, config.speed, self.read, venue=config.venue)
        )
        self._history = History()
        self._connects = Connects()

    def read(self, frame: bytes) -> Event | None:
        event = trade_event(frame)
        if event.kind is Kind.MALFORMED and _type_of(frame) in ANSWERS:
            return None
        return event

    def note(self, event: Event) -> None:
        self._history.add(event)

    def refusal(self, arrival: Arrival) -> bytes | None:
        api_key = api_key_of(arrival.target, arrival.headers)
        return refusal(self.faults, api_key, self._connects.within(60, arrival.now_s), arrival.active)

    def admit(self, arrival: Arrival) -> "StreamerSubscriber":
        self._connects.add(arrival.now_s)
        first = welcome(
            self.faults,
            self._connects,
            arrival.active + 1,
            now_s=arrival.now_s,
            uptime_s=arrival.uptime_s,
            time_ms=arrival.now_ms,
            socket_id=uuid.uuid4().hex[:20],
        )
        return StreamerSubscriber(self.faults, self._history, first, self.clock_ns)


ANSWERS = ("20", "16", "3", "17", "18", "401", "429", "500")
"""TYPEs of the frames that answer a client, which a replay leaves out."""


class _Typed(msgspec.Struct):
    type: str = msgspec.field(name="TYPE", default="")


def _type_of(frame: bytes) -> str:
    try:
        return msgspec.json.decode(frame, type=_Typed).type
    except DECODE_ERRORS:
        return ""


class StreamerSubscriber(venue.Subscriber):
    """One client's subscriptions and what it is answered.

    Args:
        history: shared by all sessions of a simulator.
        first: the frame that it gets first.
        clock_ns: the wall clock.
    """

    def __init__(
        self,
        faults: Faults,
        history: History,
        first: bytes | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._faults = faults
        self._history = history
        self._first = first
        self._clock_ns = clock_ns
        self._active: dict[str, None] = {}

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What the client is subscribed to, in the order of its asking."""
        return tuple(self._active)

    def opened(self) -> list[bytes]:
        return [] if self._first is None else [self._first]

    def beat(self, *, idle: bool) -> list[bytes]:
        return [heartbeat(self._clock_ns() // 1_000_000)]

    def goodbye(self) -> list[bytes]:
        return [force_disconnect()]

    def receive(self, frame: bytes) -> list[Event]:
        """The answer to a client's frame, in the order to send it."""
        try:
            request = msgspec.json.decode(frame)
        except DECODE_ERRORS:
            return [_answer(error("INVALID_JSON", "format", "We only support valid JSON."))]
        if not isinstance(request, dict):
            return [_answer(error("INVALID_JSON", "format", "Send a JSON object."))]
        return self._act(request.get("action"), request.get("subs"))

    def _act(self, action: object, subs: object) -> list[Event]:
        if action not in ("SubAdd", "SubRemove"):
            return [_answer(error("INVALID_PARAMETER", "action", "Send the action SubAdd or SubRemove."))]
        if not isinstance(subs, list) or not all(isinstance(sub, str) for sub in subs) or not subs:
            return [_answer(error("INVALID_PARAMETER", "subs", "Send subs, a list of subscriptions."))]
        return self._add(subs) if action == "SubAdd" else self._remove(subs)

    def _add(self, subs: Sequence[str]) -> list[Event]:
        answers = [answer for sub in subs for answer in self._add_one(sub)]
        return [*answers, _answer(control("3", "LOADCOMPLETE", INFO="All your valid subs have been loaded."))]

    def _add_one(self, sub: str) -> list[Event]:
        refused = self._refused(sub)
        if refused is not None:
            return [_answer(refused)]
        self._active[sub] = None
        return [_answer(control("16", "SUBSCRIBECOMPLETE", SUB=sub)), *self._history.repeats(sub)]

    def _refused(self, sub: str) -> bytes | None:
        if sub in self._active:
            return error("SUBSCRIPTION_ALREADY_ACTIVE", sub, "You are subscribed to it already.")
        if pair_of(sub) is None:
            return error("INVALID_SUB", sub, "The simulator has trades only: 0~MARKET~COIN~CURRENCY.")
        if sub in self._faults.refused_subscriptions:
            return error("INVALID_SUB", sub, "We have no such market or pair.")
        most = self._faults.max_subscriptions
        if most is not None and len(self._active) >= most:
            info = "Remove another subscription first."
            return control("429", f"TOO_MANY_SUBSCRIPTIONS_MAX_{most}_PER_SOCKET", PARAMETER=sub, INFO=info)
        return None

    def _remove(self, subs: Sequence[str]) -> list[Event]:
        answers = [self._remove_one(sub) for sub in subs]
        counts = {"valid": sum(answers), "invalid": len(subs) - sum(answers)}
        info = f"Removed {counts['valid']} of {len(subs)} subscriptions."
        singles = [
            control("17", "UNSUBSCRIBECOMPLETE", SUB=sub)
            if removed
            else error("SUBSCRIPTION_UNRECOGNIZED", sub, "You are not subscribed to it.")
            for sub, removed in zip(subs, answers, strict=True)
        ]
        return [
            *map(_answer, singles),
            _answer(control("18", "UNSUBSCRIBEALLCOMPLETE", INFO=info, INFO_OBJ=counts)),
        ]

    def _remove_one(self, sub: str) -> bool:
        removed = sub in self._active
        self._active.pop(sub, None)
        return removed


def _answer(frame: bytes) -> Event:
    return Event(frame, None, 0, Kind.CONTROL)
