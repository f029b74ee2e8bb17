"""What a simulator does, all of it with defaults."""

from dataclasses import dataclass, field
from pathlib import Path

from cryptoflow.errors import ConfigError
from cryptoflow.simulator.faults import Faults


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """Where the simulator listens, what it sends and how fast.

    Raises:
        ConfigError: a number makes no sense.
    """

    host: str = "127.0.0.1"
    port: int = 0
    """0: a free one."""
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
    other_flags_share: float = 0.02
    """Share of trades whose flags are "4" (unknown side), "9" or "10" (reversed) in place of "1" and "2"."""
    replay: Path | None = None
    """Send the frames of this file (JSON lines, plain or .gz) in place of generated trades."""
    speed: float = 1.0
    """Of a replay: 1 as recorded, 10 ten times as fast, 0 as fast as the socket carries."""
    record: bool = False
    """Keep every sent frame in memory, for `Simulator.sent_frames`."""
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        for name in ("rate", "speed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 0 (unlimited) or more.")
        if not 0 <= self.other_flags_share <= 1:
            raise ConfigError(f"other_flags_share is {self.other_flags_share}; give a share from 0 to 1.")

    @property
    def step_s(self) -> float:
        """Exchange time between two trades on the virtual clock, in s."""
        if self.time_step_s is not None:
            return self.time_step_s
        return 1 / self.rate if self.rate else 0.01
