"""A pair's past over the simulators' REST, which knows all that was traded and counts what it is asked."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cryptoflow.errors import FeedRefusedError, FeedUnreachableError
from cryptoflow.feeds.past import pages
from cryptoflow.feeds.rest import Rest
from cryptoflow.model.trade import NS_PER_S
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow.venues import VENUES
from cryptoflow.venues.base import Venue
from cryptoflow.venues.past import Page, Request, Wanted

START_S = 1_790_000_000

FASTER = 200
"""How many times as fast as the venue allows the tests ask, and the simulator lets them."""

PAGE = 100

each_venue = pytest.mark.parametrize("name", ["coinbase", "binance", "kraken"])


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))


def hurried(name: str) -> Venue:
    """The venue with small pages and short waits, so that tests ask often."""
    kind = type(VENUES[name])
    limits = replace(kind.limits, rest_interval_s=kind.limits.rest_interval_s / FASTER)
    made: Venue = type(kind.__name__, (kind,), {"page": PAGE, "limits": limits})()
    return made


@contextmanager
def past(name: Any, **faults: Any) -> Iterator[Simulator]:
    """A venue that has traded BTC once a second for two hours, and does no more."""
    config = SimulatorConfig(
        venue=name, pairs=("BTC-USD",), rate=1, start_time_s=START_S, time_step_s=1, history_s=7200,
        max_trades=1, limit_factor=FASTER, faults=Faults(**faults),
    )  # fmt: skip
    with Simulator(config) as simulator:
        yield simulator


def rest_of(name: str, simulator: Simulator, **options: Any) -> Rest:
    return Rest(hurried(name), simulator.rest_url, options.pop("stop", threading.Event()), **options)


def stretch(name: str, from_s: float = -3600, to_s: float = -1800) -> Wanted:
    """In s from the start."""
    pair = (str(VENUES[name].market), "BTC", "USD")
    return Wanted(pair, int((START_S + from_s) * NS_PER_S), int((START_S + to_s) * NS_PER_S) - 1)


def ids(found: list[Page]) -> list[int]:
    return sorted(int(trade.id) for page in found for trade, _ in page.trades)


def traded(name: str, simulator: Simulator, from_s: float = -3600, to_s: float = -1800) -> list[int]:
    sub = f"0~{VENUES[name].market}~BTC~USD"
    return [int(trade.id) for trade in simulator.trades(sub, START_S + from_s, START_S + to_s)]


@each_venue
def test_a_stretch_comes_whole_page_by_page_within_the_limits(name: str) -> None:
    with past(name) as simulator:
        found = list(pages(rest_of(name, simulator), stretch(name)))
        wanted = traded(name, simulator)
        assert len(wanted) > 1700
        assert sorted(set(ids(found))) == wanted
        assert not simulator.tally.broken
        assert max(simulator.tally.requests.values()) == 1
        assert simulator.tally.requests.total() < 6 + 1.3 * len(wanted) / PAGE


@each_venue
def test_troubles_of_the_venue_are_waited_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryptoflow.feeds.rest.FIRST_PAUSE_S", 0.01)
    said: list[str] = []
    with past(name, rest_errors=0.2, rest_too_many=0.05, retry_after_s=0.1) as simulator:
        found = list(pages(rest_of(name, simulator, tell=said.append), stretch(name)))
        assert sorted(set(ids(found))) == traded(name, simulator)
        assert simulator.tally.refused.total() == len(said) > 0
        assert not simulator.tally.broken
        assert not simulator.tally.refused["ban"]


@each_venue
def test_an_outage_is_waited_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryptoflow.feeds.rest.FIRST_PAUSE_S", 0.05)
    with past(name) as simulator:
        going = pages(rest_of(name, simulator), stretch(name))
        found = [next(going)]
        simulator.refuse(0.5)
        found += going
        assert sorted(set(ids(found))) == traded(name, simulator)


@each_venue
def test_what_lasts_too_long_is_an_error_that_says_who(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryptoflow.feeds.rest.FIRST_PAUSE_S", 0.01)
    with past(name, rest_errors=1.0) as simulator:
        with pytest.raises(FeedUnreachableError, match=f"The REST of {name} was no help for 0.2 s: HTTP 500"):
            list(pages(rest_of(name, simulator, for_s=0.2), stretch(name)))
        assert simulator.tally.requests.total() > 2


@pytest.mark.parametrize(("for_s", "told_s"), [(0.2, 20.0), (60.0, 60.5)])
def test_patience_that_is_asked_for_is_kept_by_all_though_it_is_more_than_one_request_has(
    for_s: float, told_s: float
) -> None:
    with past("binance", rest_too_many=1.0, retry_after_s=told_s) as simulator:
        rest = rest_of("binance", simulator, for_s=for_s)
        with pytest.raises(FeedUnreachableError, match="HTTP 429"):
            list(pages(rest, stretch("binance")))
        assert rest.pace.reserve() > told_s - 2
        assert simulator.tally.requests.total() == 1


@each_venue
def test_a_pair_that_the_venue_lacks_is_refused_at_once(name: str) -> None:
    with past(name) as simulator:
        wanted = stretch(name)._replace(pair=(str(VENUES[name].market), "NO", "USD"))
        with pytest.raises(FeedRefusedError, match=f"{name} gives no past trades of NO-USD: "):
            list(pages(rest_of(name, simulator), wanted))
        assert simulator.tally.requests.total() == 1


@each_venue
def test_a_kept_request_goes_on_after_its_page_and_none_is_sent_twice(name: str) -> None:
    with past(name) as simulator:
        request: Wanted | Request = stretch(name)
        found = []
        while page := next(pages(rest_of(name, simulator), request), None):
            found.append(page)
            if page.next is None:
                break
            request = page.next
        assert sorted(set(ids(found))) == traded(name, simulator)
        assert max(simulator.tally.requests.values()) == 1


@each_venue
def test_all_that_ask_one_address_keep_its_limits_together(name: str) -> None:
    """Each in its own thread, as runs are processes of their own: what they share is a file."""
    with past(name) as simulator, ThreadPoolExecutor(4) as pool:
        rests = [rest_of(name, simulator) for _ in range(4)]
        quarters = [stretch(name, at_s, at_s + 900) for at_s in (-3600, -2700, -1800, -900)]
        found = list(pool.map(lambda rest, wanted: ids(list(pages(rest, wanted))), rests, quarters))
        assert sorted({id_ for each in found for id_ in each}) == traded(name, simulator, -3600, 0)
        assert not simulator.tally.broken


@pytest.mark.parametrize("waits_for", ["answer", "turn", "pause"])
def test_whatever_it_waits_for_it_stops_within_a_second(waits_for: str) -> None:
    faults = {"answer": {"rest_delay_s": 2.5}, "pause": {"rest_errors": 1.0}, "turn": {}}[waits_for]
    stop = threading.Event()
    with past("coinbase", **faults) as simulator:
        rest = rest_of("coinbase", simulator, stop=stop)
        if waits_for == "turn":
            rest.pace.postpone(60)
        threading.Timer(0.3, stop.set).start()
        begin_s = time.monotonic()
        assert not list(pages(rest, stretch("coinbase")))
        assert 0.2 < time.monotonic() - begin_s < 1.3
