"""Where trades come from."""

import os
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from cryptoflow.settings.setting import REAL, SIMULATED, List, Positive, Settings, listed, setting
from cryptoflow.venues import CRYPTOCOMPARE, VENUES

OFFICIAL_URL = CRYPTOCOMPARE.url
DEFAULT_SUBSCRIPTIONS = "0~Coinbase~BTC~USD,0~Binance~BTC~USDT,0~Kraken~BTC~USD,0~CoinDeal~BTC~USD,0~Gemini~BTC~USD"

LONE_SOURCES = ("auto", "cryptocompare", "simulator")
SOURCES = f"one of {', '.join(LONE_SOURCES)}, or some of {', '.join(VENUES)}, comma-separated"


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    if "api_key" in parts.query or parts.password:
        raise ValueError("it holds a secret, and this is shown; the key belongs in CRYPTOCOMPARE_API_KEY")
    return url


def _known_source(text: str) -> str:
    names = list(dict.fromkeys(listed(text.lower()).split(",")))
    for name in names:
        if name not in (*LONE_SOURCES, *VENUES):
            raise ValueError(f"{name} is no source")
    if len(names) > 1 and (alone := [name for name in names if name in LONE_SOURCES]):
        raise ValueError(f"{alone[0]} is a source by itself alone")
    return ",".join(names)


SocketUrl = Annotated[str, AfterValidator(_without_secrets)]
RestUrl = Annotated[str, AfterValidator(_without_secrets)]


def _socket_url(name: str) -> Any:
    venue = VENUES[name]
    return setting(f"{name.upper()}_URL", venue.url, f"the address of {venue.market}'s websocket", pattern=r"^wss?://")


def _rest_url(name: str) -> Any:
    venue = VENUES[name]
    text = f"the address of {venue.market}'s REST: scheme and host"
    return setting(f"{name.upper()}_REST_URL", venue.rest_url, text, pattern=r"^https?://[^/]+/?$")


def _venues(source: str) -> tuple[str, ...]:
    return tuple(name for name in source.split(",") if name in VENUES)


def _default_subscriptions(source: str) -> str:
    """Of a source of venues those of the default that they have."""
    venues, default = _venues(source), DEFAULT_SUBSCRIPTIONS.split(",")
    return ",".join(sub for sub in default if not venues or any(VENUES[name].takes(sub) for name in venues))


class FeedSettings(Settings):
    """Where trades come from. The API key is not here: it is read from the environment, at the last moment."""

    source: Annotated[str, AfterValidator(_known_source)] = setting(
        "CRYPTOFLOW_SOURCE",
        "auto",
        f"where trades come from: {SOURCES}; auto: cryptocompare if there is an API key, else the simulator",
    )
    url: Annotated[str, AfterValidator(_without_secrets)] = setting(
        "CRYPTOCOMPARE_URL",
        OFFICIAL_URL,
        "CryptoCompare's address, without the key",
        pattern=r"^wss?://",
    )
    coinbase_url: SocketUrl = _socket_url("coinbase")
    coinbase_rest_url: RestUrl = _rest_url("coinbase")
    binance_url: SocketUrl = _socket_url("binance")
    binance_rest_url: RestUrl = _rest_url("binance")
    kraken_url: SocketUrl = _socket_url("kraken")
    kraken_rest_url: RestUrl = _rest_url("kraken")
    gemini_url: SocketUrl = _socket_url("gemini")
    gemini_rest_url: RestUrl = _rest_url("gemini")
    subscriptions: List = setting(
        "CRYPTOFLOW_SUBSCRIPTIONS",
        lambda earlier: _default_subscriptions(earlier.get("source", "auto")),
        "comma-separated 0~MARKET~COIN~CURRENCY",
        old_env="CRYPTOCOMPARE_SUBSCRIPTIONS",
        default_text=f"{DEFAULT_SUBSCRIPTIONS.replace(',', ', ')}; of venues' own feeds those that they have",
    )
    simulator_rate: Positive = setting(
        "CRYPTOFLOW_SIMULATOR_RATE", 100.0, "trades/s that the run's own simulator generates"
    )
    replay: Annotated[str, AfterValidator(os.path.abspath)] | None = setting(
        "CRYPTOFLOW_REPLAY", None, "a file of frames (JSON lines, .gz or plain) for the run's own simulator"
    )
    replay_folder: Annotated[str, AfterValidator(os.path.abspath)] | None = setting(
        "CRYPTOFLOW_REPLAY_FOLDER",
        None,
        "the only folder that a run config may name a replay in",
        option=False,
        run_config=False,
    )
    replay_speed: Annotated[float, Field(ge=0, allow_inf_nan=False)] = setting(
        "CRYPTOFLOW_REPLAY_SPEED", 1.0, "how many times faster than recorded to replay; 0: as fast as it goes"
    )
    reconnect_for_s: Positive = setting(
        "CRYPTOFLOW_RECONNECT_FOR", 900.0, "how long to try to reach the feed before the run fails, in s"
    )
    fill_limit_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = setting(
        "CRYPTOFLOW_FILL_LIMIT", 86_400.0, "how far back gaps are filled out of a venue's REST, in s; 0: not at all"
    )

    @property
    def subscription_list(self) -> tuple[str, ...]:
        """The subscriptions, one by one."""
        return tuple(self.subscriptions.split(","))

    @property
    def venues(self) -> tuple[str, ...]:
        """The names of the venues whose own feeds are the source; none if it is another."""
        return _venues(self.source)

    def venue_url(self, name: str) -> str:
        """Where the websocket of a venue is."""
        return str(getattr(self, f"{name}_url"))

    def venue_rest_url(self, name: str) -> str:
        """Where the REST of a venue is."""
        return str(getattr(self, f"{name}_rest_url"))


def is_simulated(feed: FeedSettings, key: str | None) -> bool:
    """Whether a run with these settings starts a simulator; not if it has a key, or the address of another feed."""
    return feed.source == "simulator" or (feed.source == "auto" and not key and feed.url == OFFICIAL_URL)


def store_name(feed: FeedSettings, key: str | None) -> str:
    """The topic and the keyspace of a source, unless they are named: simulated trades never stand among real ones."""
    return SIMULATED if is_simulated(feed, key) else REAL


def api_key(env: Mapping[str, str] | None = None) -> str | None:
    """The feed's API key; from the environment only, so that no run config ever stores it."""
    return (os.environ if env is None else env).get("CRYPTOCOMPARE_API_KEY") or None
