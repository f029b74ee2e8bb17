"""A venue without any socket: sessions and requests as tests ask them."""

from typing import Any

import msgspec

from cryptoflow.simulator.config import SimulatorConfig, VenueName
from cryptoflow.simulator.events import Event
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.feed import venue_of
from cryptoflow.simulator.rest import Answer, Request
from cryptoflow.simulator.venue import Arrival, Exchange, Subscriber

START_S = 1_790_000_000
"""Not the begin of a minute."""


def exchange(venue: VenueName, trades: int = 0, **changes: Any) -> Exchange:
    """A venue whose market has made so many frames; two pairs, a trade every half second in turn."""
    faults = Faults(**changes.pop("faults", {}))
    options: dict[str, Any] = {
        "rate": 0,
        "start_time_s": START_S,
        "time_step_s": 0.25,
        "history_s": 7200,
    } | changes
    made = venue_of(SimulatorConfig(venue=venue, **options, faults=faults), lambda: START_S * 10**9)
    assert isinstance(made, Exchange)
    for _ in range(trades):
        made.source.pull(())
    return made


def admitted(venue: Exchange, target: str = "/") -> Subscriber:
    """A session of a client that was let in."""
    return venue.admit(Arrival(target, {}, "::1", 0, 0.0, 0.0, 0))


def said(to: Subscriber, request: object) -> list[Any]:
    """What a session answers to a request, decoded."""
    frame = request if isinstance(request, bytes) else msgspec.json.encode(request)
    return [msgspec.json.decode(event.frame) for event in to.receive(frame)]


def asked(venue: Exchange, target: str, client: str = "::1", now_s: float = 0.0) -> Answer:
    """The answer of its REST."""
    request = Request(target, client)
    return venue.check(request, now_s) or venue.tell(request)


def told(venue: Exchange, target: str) -> Any:
    """The same decoded, with no limit in the way."""
    return msgspec.json.decode(venue.tell(Request(target, "::1")).body)


def frames(venue: Exchange, count: int, subscription: str | None = None) -> list[Event]:
    """The next frames of its market; of those, the ones of a pair."""
    events = [venue.source.pull(()) for _ in range(count)]
    return [event for event in events if subscription in (None, event.subscription)]
