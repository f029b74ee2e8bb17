"""What a simulator does, all of it with defaults."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from cryptoflow.errors import ConfigError
from cryptoflow.simulator.faults import Faults

VenueName = Literal["cryptocompare", "coinbase", "binance", "kraken"]
VENUES: tuple[VenueName, ...] = get_args(VenueName)


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """Whose feed the simulator is, where it listens, what it sends and how fast.

    Raises:
        ConfigError: a number makes no sense.
    """

    venue: VenueName = "cryptocompare"
    """Whose protocol it speaks: CryptoCompare's stream stands still while nobody listens; a venue's market never does,
    and its REST tells all that was traded."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: a free one."""
    rest_port: int | None = None
    """Of the REST; 0: a free one; None: the websocket's."""
    pairs: tuple[str, ...] = ()
    """What is traded at a venue, such as "BTC-USD"; none: two pairs that it has. A replay has all it is asked for."""
    rate: float = 100.0
    """Generated trades a second, over all pairs; 0: as fast as the socket carries."""
    seed: int = 0
    """Of prices, quantities and faults."""
    max_trades: int | None = None
    """Generate so many trades, then fall silent but for heartbeats; None: endless."""
    start_time_s: float | None = None
    """Exchange time of the first generated trade, in s since the epoch; None: all have the wall clock's."""
    time_step_s: float | None = None
    """With `start_time_s`, the exchange time from trade to trade; None: 1/rate, or 0.01 if unlimited."""
    start_id: int | None = None
    """Id of the first generated trade; None: the start's microseconds, so that ids of two starts differ."""
    history_s: float = 31 * 86_400
    """How far a venue's past reaches back from the start."""
    history_rate: float | None = None
    """Trades/s of a venue's past, over all pairs; None: `rate`."""
    other_flags_share: float = 0.02
    """Share of trades whose flags are "4" (unknown side), "9" or "10" (reversed) in place of "1" and "2"."""
    replay: Path | None = None
    """Send the frames of this file (lines as `cryptoflow record` writes them, or frames by themselves, plain or .gz) in
    place of generated trades; a venue's REST then tells the trades of the file, as far as it was sent."""
    speed: float = 1.0
    """Of a replay: 1 as recorded, 10 ten times as fast, 0 as fast as the socket carries."""
    record: bool = False
    """Keep every sent frame in memory, for `Simulator.sent_frames`."""
    limit_factor: float = 1.0
    """A venue's limits on requests are so many times as generous."""
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        for name in ("rate", "speed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 0 (unlimited) or more.")
        for name in ("history_s", "history_rate", "limit_factor"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value}; give more than 0.")
        if self.venue not in VENUES:
            raise ConfigError(f"There is no simulator of {self.venue!r}; give one of {', '.join(VENUES)}.")
        if not 0 <= self.other_flags_share <= 1:
            raise ConfigError(f"other_flags_share is {self.other_flags_share}; give a share from 0 to 1.")

    @property
    def market_speed(self) -> float:
        """How many s pass in the market in each of ours."""
        return 1.0 if self.start_time_s is None else self.step_s * self.rate

    @property
    def step_s(self) -> float:
        """Exchange time between two trades on the virtual clock, in s."""
        if self.time_step_s is not None:
            return self.time_step_s
        return 1 / self.rate if self.rate else 0.01
