"""The faults of the stream: stages that events are pushed through (late, disordered, lost, repeated, broken frames)."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from cryptoflow.simulator.events import FRESH, Event, Kind, in_ns
from cryptoflow.simulator.faults import Faults

RECENT = 100
"""How many trades back a repeated one may lie."""


class Fields(NamedTuple):
    """Where a venue's frame holds a trade, and how it calls what makes one."""

    path: tuple[str | int, ...]
    price: str
    id: str
    time: str


UNITS_TOO_SMALL = 1_700_000_000_000_000
"""A time in microseconds: no venue's unit."""


def _changed(frame: bytes, fields: Fields, name: str, change: Callable[[Any], object] | None) -> bytes:
    """The frame with one field of its trade changed, or gone."""
    whole = msgspec.json.decode(frame)
    trade = whole
    for step in fields.path:
        trade = trade[step]
    value = trade.pop(name)
    if change is not None:
        trade[name] = change(value)
    return msgspec.json.encode(whole)


def breakages(fields: Fields) -> Sequence[Callable[[bytes], bytes]]:
    """Ways to break a trade's frame: cut, a field missing, wrong types, a wrong unit, a negative price, text."""
    return (
        lambda frame: frame[: len(frame) // 2],
        lambda frame: _changed(frame, fields, fields.price, None),
        lambda frame: _changed(frame, fields, fields.id, None),
        lambda frame: _changed(frame, fields, fields.price, lambda price: "high"),
        lambda frame: _changed(frame, fields, fields.time, lambda time: [time]),
        lambda frame: _changed(frame, fields, fields.time, lambda time: UNITS_TOO_SMALL),
        lambda frame: _changed(frame, fields, fields.price, lambda price: f"-{price}"),
        lambda frame: b"Bad Gateway",
        lambda frame: b"[" + frame + b"]",
        lambda frame: b"",
    )


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


class Lose:
    """Drops a share of the trades' frames."""

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng

    def push(self, event: Event) -> Iterable[Event]:
        return () if event.kind in FRESH and self._rng.random() < self._share else (event,)

    def flush(self) -> Iterable[Event]:
        return ()


class Swap:
    """Lets one to three later frames of the same pair pass a share of the trades' frames."""

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share = share
        self._rng = rng
        self._held: dict[str | None, tuple[Event, int]] = {}

    def push(self, event: Event) -> Iterable[Event]:
        held, passes = self._held.pop(event.subscription, (None, 0))
        if held is None and event.kind in FRESH and self._rng.random() < self._share:
            self._held[event.subscription] = event, self._rng.randint(1, 3)
            return
        yield event
        if held is not None and passes > 1:
            self._held[event.subscription] = held, passes - 1
        elif held is not None:
            yield held._replace(stream_ns=max(held.stream_ns, event.stream_ns))

    def flush(self) -> Iterable[Event]:
        for held, _ in self._held.values():
            yield held
        self._held.clear()


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

    def __init__(self, share: float, rng: random.Random, fields: Fields) -> None:
        self._share = share
        self._rng = rng
        self._breakages = breakages(fields)

    def push(self, event: Event) -> Iterable[Event]:
        yield event
        if event.kind in FRESH and self._rng.random() < self._share:
            breakage = self._rng.choice(self._breakages)
            yield event._replace(frame=breakage(event.frame), kind=Kind.MALFORMED)

    def flush(self) -> Iterable[Event]:
        return ()


def stages(faults: Faults, seed: int, *, dated_back: bool, fields: Fields) -> tuple[Stage, ...]:
    """The stages of the faults that are on; each has its own randomness, so that one does not change another.

    Args:
        dated_back: the late trades are made so by the source already.
        fields: of the frames, for broken ones.
    """

    def rng(name: str) -> random.Random:
        return random.Random(f"{seed} {name}")

    late = 0.0 if dated_back else faults.late
    made: list[tuple[float, Stage]] = [
        (faults.lost, Lose(faults.lost, rng("lost"))),
        (late, HoldBack(late, in_ns(faults.late_by_s), rng("late"))),
        (faults.disorder_s, Shuffle(in_ns(faults.disorder_s), rng("disorder"))),
        (faults.disordered_ids, Swap(faults.disordered_ids, rng("disordered_ids"))),
        (faults.duplicates, Repeat(faults.duplicates, rng("duplicates"))),
        (faults.malformed, Spoil(faults.malformed, rng("malformed"), fields)),
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
