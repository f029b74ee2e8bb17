"""What can go wrong with a feed, each fault seeded and off by default.

The faults of the stream (late, out of order, repeated, broken frames) are stages that events are pushed
through; the faults of the socket (refusals, limits, cuts, silence) are done by the session and the server.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

import msgspec

from cryptoflow.errors import ConfigError
from cryptoflow.model.trade import read_trade
from cryptoflow.simulator.events import FRESH, Event, Kind, in_ns

RECENT = 100
"""How many trades back a repeated one may lie."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The switches. Shares are from 0 to 1; None turns a fault off.

    Raises:
        ConfigError: a share is no share, or a time or limit is negative.
    """

    duplicates: float = 0.0
    """Share of trades that are sent a second time, a little later."""
    disorder_s: float = 0.0
    """Trades leave in another order than their exchange times', but none after one this much newer."""
    late: float = 0.0
    """Share of trades sent `late_by_s` after their exchange time: replayed ones are held back so long,
    generated ones are dated back."""
    late_by_s: float = 600.0
    malformed: float = 0.0
    """Share of trades that a broken copy is sent after."""
    refused_subscriptions: tuple[str, ...] = ()
    """Answered with 500 INVALID_SUB."""
    api_keys: tuple[str, ...] | None = field(default=None, repr=False)
    """The keys that are let in; another one, or none, gets a 401 and the close. None: anybody is let in."""
    max_connects_per_minute: int | None = None
    """A further one gets 429 RATE_LIMIT_OPENING_SOCKETS_TOO_FAST and the close."""
    max_sockets: int | None = None
    """A further one gets 429 TOO_MANY_SOCKETS_MAX_{X}_PER_CLIENT and the close."""
    max_subscriptions: int | None = None
    """Per socket; a further one gets 429 TOO_MANY_SUBSCRIPTIONS_MAX_{X}_PER_SOCKET."""
    force_disconnect_every_s: float | None = None
    """Each socket gets 500 FORCE_DISCONNECT and the close, this long after it was opened."""
    cut_every_s: float | None = None
    """Each socket is dropped without a close frame, this long after it was opened."""
    silent_after_s: float | None = None
    """Each socket stays open, but gets nothing more than pongs, this long after it was opened."""
    heartbeat_s: float = 30.0
    """Time between heartbeats."""

    def __post_init__(self) -> None:
        for name in ("duplicates", "late", "malformed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a share from 0 to 1.")
        for name in (item.name for item in fields(self) if item.name.endswith("_s") or item.name[:4] == "max_"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 0 or more.")
        if self.heartbeat_s == 0:
            raise ConfigError("heartbeat_s is 0; give the seconds between two heartbeats.")


class Stage(Protocol):
    """One fault of the stream."""

    def push(self, event: Event) -> Iterable[Event]:
        """What leaves the stage when `event` enters it."""

    def flush(self) -> Iterable[Event]:
        """What is left in the stage at the end of the stream."""


class HoldBack:
    """Holds a share of the trades back until the stream is `late_by_ns` past them."""

    def __init__(self, share: float, late_by_ns: int, rng: random.Random) -> None:
        self._share = share
        self._late_by_ns = late_by_ns
        self._rng = rng
        self._held: deque[Event] = deque()
        self._stream_ns = 0

    def push(self, event: Event) -> Iterable[Event]:
        self._stream_ns = event.stream_ns
        while self._held and self._held[0].stream_ns + self._late_by_ns <= self._stream_ns:
            yield self._released()
        if event.kind in FRESH and self._rng.random() < self._share:
            self._held.append(event)
        else:
            yield event

    def flush(self) -> Iterable[Event]:
        while self._held:
            yield self._released()

    def _released(self) -> Event:
        event = self._held.popleft()
        late = event.stream_ns + self._late_by_ns <= self._stream_ns
        return event._replace(stream_ns=self._stream_ns, kind=Kind.LATE if late else event.kind)


class Shuffle:
    """Delays each event by a random part of `disorder_ns` of stream time.

    An event leaves when the stream reaches its delayed time, so none leaves after one `disorder_ns` newer.
    """

    def __init__(self, disorder_ns: int, rng: random.Random) -> None:
        self._disorder_ns = disorder_ns
        self._rng = rng
        self._heap: list[tuple[int, int, Event]] = []
        self._pushed = 0

    def push(self, event: Event) -> Iterable[Event]:
        due_ns = event.stream_ns + self._rng.randint(0, self._disorder_ns)
        heapq.heappush(self._heap, (due_ns, self._pushed, event))
        self._pushed += 1
        while self._heap and self._heap[0][0] <= event.stream_ns:
            yield heapq.heappop(self._heap)[2]

    def flush(self) -> Iterable[Event]:
        while self._heap:
            yield heapq.heappop(self._heap)[2]


class Repeat:
    """Sends one of the last trades again after a share of the trades."""

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng
        self._recent: deque[Event] = deque(maxlen=RECENT)

    def push(self, event: Event) -> Iterable[Event]:
        yield event
        if event.kind in FRESH:
            self._recent.append(event)
            if self._rng.random() < self._share:
                yield self._rng.choice(self._recent)._replace(kind=Kind.DUPLICATE)

    def flush(self) -> Iterable[Event]:
        return ()


class Spoil:
    """Sends a broken copy after a share of the trades."""

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng

    def push(self, event: Event) -> Iterable[Event]:
        yield event
        if event.kind in FRESH and self._rng.random() < self._share:
            breakage = self._rng.choice(BREAKAGES)
            yield event._replace(frame=breakage(event.frame), kind=Kind.MALFORMED)

    def flush(self) -> Iterable[Event]:
        return ()


def _changed(frame: bytes, **fields: object) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(frame) | fields)


def _without(frame: bytes, name: str) -> bytes:
    kept = {key: value for key, value in msgspec.json.decode(frame).items() if key != name}
    return msgspec.json.encode(kept)


BREAKAGES: Sequence[Callable[[bytes], bytes]] = (
    lambda frame: frame[: len(frame) // 2],
    lambda frame: _without(frame, "P"),
    lambda frame: _without(frame, "ID"),
    lambda frame: _changed(frame, P="high"),
    lambda frame: _changed(frame, TS=str(read_trade(frame).time_s)),
    lambda frame: _changed(frame, TS=read_trade(frame).event_time_ns // 1_000_000),
    lambda frame: _changed(frame, P=-read_trade(frame).price),
    lambda frame: b"Bad Gateway",
    lambda frame: b"[" + frame + b"]",
    lambda frame: b"",
)
"""Ways to break a trade's frame: cut, a field missing, wrong types, a wrong unit, a negative price, text."""


def stages(faults: Faults, seed: int, *, dated_back: bool) -> tuple[Stage, ...]:
    """The stages of the faults that are on; each has its own randomness, so that one does not change another.

    Args:
        dated_back: the late trades are made so by the source already.
    """
    made: list[tuple[bool, Stage]] = [
        (
            faults.late > 0 and not dated_back,
            HoldBack(faults.late, in_ns(faults.late_by_s), random.Random(f"{seed} late")),
        ),
        (faults.disorder_s > 0, Shuffle(in_ns(faults.disorder_s), random.Random(f"{seed} disorder"))),
        (faults.duplicates > 0, Repeat(faults.duplicates, random.Random(f"{seed} duplicates"))),
        (faults.malformed > 0, Spoil(faults.malformed, random.Random(f"{seed} malformed"))),
    ]
    return tuple(stage for on, stage in made if on)


def pushed(through: Sequence[Stage], events: Iterable[Event]) -> list[Event]:
    """What leaves the last stage when `events` enter the first."""
    passed = list(events)
    for stage in through:
        passed = [out for event in passed for out in stage.push(event)]
    return passed


def flushed(through: Sequence[Stage]) -> list[Event]:
    """What is left in the stages at the end of the stream."""
    left: list[Event] = []
    for stage in through:
        left = [out for event in left for out in stage.push(event)]
        left += stage.flush()
    return left
