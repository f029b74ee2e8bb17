"""What this machine needs to run cryptoflow: each thing checked, with the way to get it."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from cryptoflow import settings
from cryptoflow.errors import CryptoflowError, PrerequisiteError
from cryptoflow.feeds.reach import Reached, reach_rest, reach_websocket
from cryptoflow.local import jars, lifecycle
from cryptoflow.local.java import find_java
from cryptoflow.local.machine import GIB, require_disk, require_memory
from cryptoflow.local.service import LOOPBACK, Service, listening
from cryptoflow.settings import (
    OFFICIAL_URL,
    CassandraSettings,
    FeedSettings,
    KafkaSettings,
    SparkSettings,
    is_simulated,
)
from cryptoflow.venues import VENUES

UNSYNCHRONIZED = 5
"""The kernel's TIME_ERROR."""

TIMEX_BYTES = 1024
"""More than its struct timex takes; zeros in it ask and change nothing."""

OLDEST_PYTHON = (3, 11)
CLOCK_TOLERANCE_S = 5.0
"""What a venue's clock, told in whole seconds at the end of some way, may differ from this one's."""

UI_PORT = 3000
"""Dagster's."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str
    """What was found; where it is not ok, what is wrong and what fixes it."""
    needed: bool = True
    """Whether nothing runs without it; else it can be had when it is first used, or done without."""


def check_all(home: Path, ui_port: int = UI_PORT, env: Mapping[str, str] = os.environ) -> list[Check]:
    """All checks of this machine under the environment's settings; reads only.

    Where venues' own feeds are the source, it is looked whether they can be reached.
    """
    return [
        checked("Python", python),
        checked("Java", java),
        checked("memory", memory),
        checked("disk", lambda: disk(home)),
        *(jar_set(home, name) for name in jars.SETS),
        *_services(home),
        *_ui_ports(ui_port),
        clock(),
        checked("feed", lambda: feed(env)),
        *venues(env),
    ]


def require(checks: Iterable[Check]) -> None:
    """Raise the first failed check that is needed.

    Raises:
        PrerequisiteError: with what is wrong and what fixes it.
    """
    for check in checks:
        if check.needed and not check.ok:
            raise PrerequisiteError(check.text)


def checked(name: str, look: Callable[[], str]) -> Check:
    """The check of something that `look` either describes or misses."""
    try:
        return Check(name, True, look())
    except CryptoflowError as error:
        return Check(name, False, str(error))


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> str:
    """This Python's version.

    Raises:
        PrerequisiteError: it is too old.
    """
    found = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        raise PrerequisiteError(f"Python {found} is too old: run cryptoflow with Python 3.11 or later.")
    return found


def java() -> str:
    """Java's version and place.

    Raises:
        PrerequisiteError: it is missing or too old.
    """
    found = find_java()
    return f"{found.version} ({found.executable})"


def memory() -> str:
    """The free memory.

    Raises:
        PrerequisiteError: it is too little.
    """
    return f"{require_memory() / GIB:.1f} GiB free"


def disk(home: Path) -> str:
    """The free disk.

    Raises:
        PrerequisiteError: it is too little.
    """
    return f"{require_disk(home) / GIB:.1f} GiB free for {home}"


def clock(state: Callable[[], int | None] = lambda: clock_state()) -> Check:
    """Whether the system keeps its clock right; not needed, since trades that seem to come early are only repaired."""
    match state():
        case None:
            return Check("clock", True, "the system does not tell whether it is kept right")
        case code if code == UNSYNCHRONIZED:
            text = (
                "It is not synchronized: run a time service (chrony, systemd-timesyncd). Where it is behind, trades "
                "look as if they came early, and get into their candles by repairs only."
            )
            return Check("clock", False, text, needed=False)
        case _:
            return Check("clock", True, "synchronized")


def clock_state() -> int | None:
    """What the kernel says of its clock (adjtimex(2)); None where there is no such call."""
    buffer = ctypes.create_string_buffer(TIMEX_BYTES)
    try:
        state: int = ctypes.CDLL(None).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    return state if state >= 0 else None


def feed(env: Mapping[str, str] = os.environ) -> str:
    """Which feed a run takes, and where its trades go.

    Raises:
        ConfigError: the settings can't be used.
        PrerequisiteError: CryptoCompare is chosen and there is no key.
    """
    chosen, key = settings.load(FeedSettings, env=env), settings.api_key(env)
    place = _destination(env)
    if is_simulated(chosen, key):
        return (
            f"the simulator, {place} (to go live take `--source coinbase,binance,kraken`, which needs no key, or set "
            "CRYPTOCOMPARE_API_KEY)"
        )
    if chosen.venues:
        return f"{', '.join(chosen.venues)}, {place}"
    if chosen.url != OFFICIAL_URL:
        return f"{chosen.url}, {place}"
    if not key:
        raise PrerequisiteError(
            "There is no key for CryptoCompare: set CRYPTOCOMPARE_API_KEY to yours, or take a source that needs none, "
            "such as `--source coinbase,binance,kraken`."
        )
    return f"CryptoCompare, with the key in CRYPTOCOMPARE_API_KEY, {place}"


def _destination(env: Mapping[str, str]) -> str:
    topic = settings.load(KafkaSettings, env=env).topic
    return f"into the topic {topic} and the keyspace {settings.load(CassandraSettings, env=env).keyspace}"


def venues(env: Mapping[str, str] = os.environ) -> list[Check]:
    """Whether the websockets and the REST of the source's venues answer, all asked at once; none of another source."""
    try:
        chosen = settings.load(FeedSettings, env=env)
    except CryptoflowError:
        return []  # `feed` tells
    with ThreadPoolExecutor(max(1, len(chosen.venues))) as pool:
        return list(chain.from_iterable(pool.map(partial(_venue, chosen), chosen.venues)))


def _venue(chosen: FeedSettings, name: str) -> list[Check]:
    venue, url, rest_url = VENUES[name], chosen.venue_url(name), chosen.venue_rest_url(name)
    found = [
        _reached(f"{venue.market} websocket", url, partial(reach_websocket, venue, url), needed=True),
        _reached(f"{venue.market} REST", rest_url, partial(reach_rest, venue, rest_url), needed=False),
    ]
    differ_s = [ahead_s for _, ahead_s in found if ahead_s is not None and abs(ahead_s) > CLOCK_TOLERANCE_S]
    clocks = [_clocks_differ(str(venue.market), differ_s[0])] if differ_s else []
    return [*(check for check, _ in found), *clocks]


def _reached(name: str, address: str, reach: Callable[[], Reached], *, needed: bool) -> tuple[Check, float | None]:
    """The check, and how far the clock is ahead of the venue's. REST only fills gaps: a run does without."""
    try:
        answer = reach()
    except CryptoflowError as error:
        return Check(name, False, str(error), needed), None
    return Check(name, True, f"{address} answers, in {answer.took_s * 1000:.0f} ms", needed), answer.clock_ahead_s


def _clocks_differ(market: str, ahead_s: float) -> Check:
    way = "ahead of" if ahead_s > 0 else "behind"
    text = (
        f"This machine's clock is {abs(ahead_s):.0f} s {way} {market}'s: run a time service (chrony, "
        "systemd-timesyncd). Trades get into their candles all the same, some of them by repairs only."
    )
    return Check(f"{market} clock", False, text, needed=False)


def jar_set(home: Path, name: str) -> Check:
    """Whether a set of jars is there; they are fetched when first used."""
    if jars.is_installed(home, name):
        return Check(f"jars of {name}", True, str(jars.jar_folder(home, name)))
    return Check(f"jars of {name}", False, "Not fetched yet: run `cryptoflow services jars`.", needed=False)


def service(home: Path, wanted: Service) -> Check:
    """Whether a service is up, or could be started."""
    found = lifecycle.status(home, [wanted])[0]
    if found.state == "up":
        return Check(wanted.name, True, f"up on {wanted.address}")
    if wanted.external:
        return Check(
            wanted.name,
            False,
            f"Nothing answers at {wanted.address}: start it there, or unset {wanted.setting}.",
        )
    texts = {
        "down": f"port {wanted.port} is free for it: `cryptoflow services up` starts it, and so does a run",
        "silent": f"It runs and does not answer: run `cryptoflow services down`, and see {found.log}.",
        "taken": f"Port {wanted.port} is taken by another program: end that, or set {wanted.setting}.",
    }
    return Check(wanted.name, found.state == "down", texts[found.state])


def ui_port(name: str, port: int, way_out: str) -> Check:
    """Whether a port is free for a web page; not needed, since a run can do without the page."""
    if listening(LOOPBACK, port):
        return Check(name, False, f"Port {port} is taken: end what listens there, or {way_out}.", needed=False)
    return Check(name, True, f"port {port} is free")


def _services(home: Path) -> Iterator[Check]:
    try:
        wanted = lifecycle.services(settings.load(KafkaSettings), settings.load(CassandraSettings))
    except CryptoflowError as error:
        yield Check("Kafka and Cassandra", False, str(error))
        return
    for each in wanted:
        try:
            yield service(home, each)
        except CryptoflowError as error:
            yield Check(each.name, False, str(error))


def _ui_ports(dagster_port: int) -> Iterator[Check]:
    try:
        spark_port = settings.load(SparkSettings).ui_port
    except CryptoflowError as error:
        yield Check("Spark", False, str(error))
    else:
        yield ui_port("Spark UI", spark_port, "set SPARK_UI_PORT")
    yield ui_port("Dagster UI", dagster_port, "look there: it may be Dagster already")
