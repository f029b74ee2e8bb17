"""Which feed a run has: CryptoCompare, venues of their own, or a simulator that the run starts for itself."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cryptoflow.errors import ConfigError, ServiceError
from cryptoflow.feeds.client import VenuesClient
from cryptoflow.feeds.endpoint import Endpoint
from cryptoflow.feeds.events import ClientEvent
from cryptoflow.feeds.filler import Filling
from cryptoflow.feeds.gaps import Earlier
from cryptoflow.feeds.link import Overhear, unheard
from cryptoflow.feeds.sink import Sink
from cryptoflow.settings import OFFICIAL_URL, FeedSettings, api_key, is_simulated
from cryptoflow.venues import CRYPTOCOMPARE, VENUES

SIMULATED = (
    "The trades come from the built-in simulator and are not real. "
    "To go live without a key, take `--source coinbase,binance,kraken`; "
    "or set CRYPTOCOMPARE_API_KEY to a key from CryptoCompare, and ask for no other source."
)
"""What a run on the simulator says."""

SIMULATOR = "simulator"


@dataclass(frozen=True)
class Feed:
    """A feed that can be connected to."""

    url: str
    """Its address; the addresses, where it has several."""
    settings: FeedSettings
    simulated: bool
    key: str | None = field(default=None, repr=False)

    @property
    def notice(self) -> str:
        """One sentence on where the trades come from."""
        return SIMULATED if self.simulated else f"The trades come from {self.url}."

    @property
    def venues(self) -> tuple[str, ...]:
        """As `venues_of` its settings."""
        return venues_of(self.settings, simulated=self.simulated)

    @property
    def has_past(self) -> bool:
        """Whether what it did not send can be asked for."""
        return any(endpoint.rest_url for endpoint in self.endpoints())

    def client(
        self,
        sink: Sink,
        on_event: Callable[[ClientEvent], None],
        earlier: Earlier | None = None,
        filling: Filling | None = None,
        *,
        overhear: Overhear = unheard,
    ) -> VenuesClient:
        """A client of it that hands trades to `sink`; `earlier`, `filling` and `overhear` as VenuesClient has them.

        Raises:
            ConfigError: no subscription is of a market that the source has.
        """
        endpoints = [*self.endpoints()]
        taken = {sub for endpoint in endpoints for sub in endpoint.subscriptions}
        if not taken:
            raise ConfigError(
                f"None of the subscriptions is of {self.settings.source}: "
                f"set CRYPTOFLOW_SUBSCRIPTIONS to such as {VENUES[self.settings.venues[0]].market}'s own."
            )
        return VenuesClient(
            endpoints,
            sink,
            reconnect_for_s=self.settings.reconnect_for_s,
            on_event=on_event,
            overhear=overhear,
            strangers=[sub for sub in self.settings.subscription_list if sub not in taken],
            earlier=earlier,
            filling=filling,
        )

    def endpoints(self) -> Iterator[Endpoint]:
        """One for each socket, with what it is to subscribe to."""
        settings = self.settings
        if self.simulated or not settings.venues:
            yield Endpoint(CRYPTOCOMPARE, self.url, settings.subscription_list, self.key)
            return
        for name in settings.venues:
            venue, most = VENUES[name], VENUES[name].limits.subscriptions
            subscriptions = tuple(filter(venue.takes, settings.subscription_list))
            for begin in range(0, len(subscriptions), most):
                some = subscriptions[begin : begin + most]
                yield Endpoint(venue, settings.venue_url(name), some, rest_url=settings.venue_rest_url(name))


def venues_of(settings: FeedSettings, *, simulated: bool) -> tuple[str, ...]:
    """The names of those whose trades a run has: two runs of one of them would do the same work."""
    return (SIMULATOR,) if simulated else settings.venues or (CRYPTOCOMPARE.name,)


def destination(topic: str, keyspace: str | None = None) -> str:
    """One sentence on where the trades go."""
    candles = f", their candles to the keyspace {keyspace}" if keyspace else ""
    return f"They go to the topic {topic}{candles}."


@contextmanager
def open_feed(settings: FeedSettings, key: str | None = None) -> Iterator[Feed]:
    """The feed, with its simulator running for as long as the block lasts if it has one.

    Raises:
        ConfigError: the live feed is asked for without a key, or with a replay.
        ServiceError: the simulator could not be started.
    """
    key = key or api_key()
    if is_simulated(settings, key):
        with simulator(settings) as url:
            yield Feed(url, settings, simulated=True)
    elif settings.replay:
        raise ConfigError("Only the simulator replays a file: take `--source simulator`, or leave --replay out.")
    elif settings.venues:
        yield Feed(", ".join(map(settings.venue_url, settings.venues)), settings, simulated=False)
    elif not key and settings.url == OFFICIAL_URL:
        raise ConfigError(
            "CryptoCompare's live feed needs a key: set CRYPTOCOMPARE_API_KEY, or take a source that needs none, "
            "such as `--source coinbase,binance,kraken`, or `--source simulator`."
        )
    else:
        yield Feed(settings.url, settings, simulated=False, key=key)


@contextmanager
def simulator(settings: FeedSettings) -> Iterator[str]:
    """A simulator in a process of its own, gone with this one; gives its URL."""
    command = [
        sys.executable,
        "-m",
        "cryptoflow",
        "simulate",
        "--port",
        "0",
        "--parent-pid",
        str(os.getpid()),
    ]
    if settings.replay:
        command += ["--replay", settings.replay, "--speed", str(settings.replay_speed)]
    else:
        command += ["--rate", str(settings.simulator_rate)]
    # In a group of its own: Ctrl-C ends the client first, which still talks to it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield _announced_url(process)
    finally:
        process.terminate()
        process.communicate()


def _announced_url(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if "listening on " in line:
            return line.split("listening on ")[1].split()[0]
    _, errors = process.communicate()
    raise ServiceError(f"The simulator did not start: {(errors.strip().splitlines() or ['it said nothing'])[-1]}")
