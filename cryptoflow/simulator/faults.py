"""What can go wrong with a feed, each fault seeded and off by default.

The faults of the stream are done by `stages`, those of the socket by the session and the server, those of the REST by
`rest` and the venue.
"""

from dataclasses import dataclass, field, fields

from cryptoflow.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The switches. Shares are from 0 to 1; None turns a fault off.

    Raises:
        ConfigError: a share is no share, or a time or limit is negative.
    """

    # Of the stream

    duplicates: float = 0.0
    """Share of trades that are sent a second time, a little later."""
    disorder_s: float = 0.0
    """Trades leave in another order than their exchange times', but none after one this much newer."""
    disordered_ids: float = 0.0
    """Share of frames that leave after one to three later ones of their pair; in a frame of several trades, share of
    frames whose trades are in no order."""
    late: float = 0.0
    """Share of trades sent `late_by_s` after their exchange time: replayed ones are held back so long, and a venue's;
    CryptoCompare's generated ones are dated back."""
    late_by_s: float = 600.0
    malformed: float = 0.0
    """Share of trades that a broken copy is sent after."""
    lost: float = 0.0
    """Share of frames of trades that are never sent; a venue's REST tells them."""
    lost_ids: float = 0.0
    """Share of a venue's ids that no trade has, at most 0.9: holes that nothing can fill."""
    quiet_pairs: tuple[str, ...] = ()
    """Pairs of a venue, such as "BTC-USD", that trade every `quiet_every_s` only, on average."""
    quiet_every_s: float = 150.0

    # Of the socket

    refused_subscriptions: tuple[str, ...] = ()
    """Answered as the venue answers what it does not have."""
    api_keys: tuple[str, ...] | None = field(default=None, repr=False)
    """CryptoCompare's keys that are let in; another one, or none, gets a 401 and the close. None: anybody is let in."""
    max_connects_per_minute: int | None = None
    """A further one gets a 429; at CryptoCompare as a frame and the close, elsewhere by HTTP."""
    max_sockets: int | None = None
    """A further one at once gets a 429, likewise."""
    max_subscriptions: int | None = None
    """Per socket; a further one is refused."""
    force_disconnect_every_s: float | None = None
    """Each socket gets the venue's notice, if it has one, and the close, this long after it was opened."""
    notice_s: float = 0.0
    """How long before the close the notice comes."""
    lifetime_s: float | None = None
    """Each socket is closed without a notice, this long after it was opened; None: the venue's (Binance: 24 h)."""
    cut_every_s: float | None = None
    """Each socket is dropped without a close frame, this long after it was opened."""
    silent_after_s: float | None = None
    """Each socket stays open, but gets nothing more than pongs, this long after it was opened."""
    heartbeat_s: float | None = None
    """Time between heartbeats; None: the venue's."""
    duplicate_last_match: bool = False
    """Coinbase's `last_match` comes twice."""
    zero_last_trade_id: bool = False
    """Coinbase's heartbeats say 0 in place of the last trade's id."""

    # Of the REST

    rest_delay_s: float = 0.0
    """How long each answer takes."""
    rest_lag_s: float = 0.0
    """How long the REST does not know a trade yet, from its exchange time on."""
    rest_too_many: float = 0.0
    """Share of requests that are refused as too many, though the limits are kept."""
    rest_errors: float = 0.0
    """Share of requests that are answered by a 500."""
    retry_after_s: float = 2.0
    """What a refusal by `rest_too_many` asks to wait, where the venue says so."""
    rest_lacks: tuple[str, ...] = ()
    """Ends of paths that the REST does not have, such as "historicalTrades"."""
    klines_off: float = 0.0
    """Share of minutes whose candle, in the venue's own words, counts one trade more than there was."""
    exclusive_since: bool = False
    """Kraken's `since` leaves out the trades of that very time."""

    # Of both

    refuse_after_s: float | None = None
    """The venue drops all sockets and refuses everything by HTTP, this long after the start."""
    refuse_for_s: float = 60.0
    refuse_status: int = 503
    """By which it refuses; 451: where it does no business."""
    maintenance_after_s: float | None = None
    """The venue says that it is in maintenance, in its own way, this long after the start. Its market goes on."""
    maintenance_for_s: float = 60.0

    def __post_init__(self) -> None:
        for name in SHARES:
            if not 0 <= getattr(self, name) <= SHARES[name]:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a share from 0 to {SHARES[name]:g}.")
        for name in (item.name for item in fields(self) if item.name.endswith("_s") or item.name[:4] == "max_"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 0 or more.")
        if not 400 <= self.refuse_status <= 599:
            raise ConfigError(f"refuse_status is {self.refuse_status}; give the status of an error, 400 to 599.")
        for name in ("heartbeat_s", "quiet_every_s"):
            if getattr(self, name) == 0:
                raise ConfigError(f"{name} is 0; give the seconds between two.")


SHARES = {
    "duplicates": 1.0,
    "disordered_ids": 1.0,
    "late": 1.0,
    "malformed": 1.0,
    "lost": 1.0,
    "lost_ids": 0.9,
    "rest_too_many": 1.0,
    "rest_errors": 1.0,
    "klines_off": 1.0,
}
"""The faults that are shares, and the largest that makes sense."""
