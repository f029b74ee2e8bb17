"""Which feed a run has: the live one, or a simulator that the run starts for itself."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cryptoflow.errors import ConfigError, ServiceError
from cryptoflow.feeds.client import ClientEvent, FeedClient
from cryptoflow.feeds.sink import Sink
from cryptoflow.settings import OFFICIAL_URL, FeedSettings, api_key, is_simulated

SIMULATED = (
    "The trades come from the built-in simulator and are not real. "
    "To go live, set CRYPTOCOMPARE_API_KEY to a key from CryptoCompare, and ask for no other source."
)
"""What a run on the simulator says."""


@dataclass(frozen=True)
class Feed:
    """A feed that can be connected to."""

    url: str
    settings: FeedSettings
    simulated: bool
    key: str | None = field(default=None, repr=False)

    @property
    def notice(self) -> str:
        """One sentence on where the trades come from."""
        return SIMULATED if self.simulated else f"The trades come from {self.url}."

    def client(self, sink: Sink, on_event: Callable[[ClientEvent], None]) -> FeedClient:
        """A client of it that hands trades to `sink`."""
        return FeedClient(
            self.url,
            self.settings.subscription_list,
            sink,
            api_key=self.key,
            reconnect_for_s=self.settings.reconnect_for_s,
            on_event=on_event,
        )


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
    elif not key and settings.url == OFFICIAL_URL:
        raise ConfigError("The live feed needs a key: set CRYPTOCOMPARE_API_KEY, or take `--source simulator`.")
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
