"""Simulated venues whose clocks run faster than ours, from some hours ago on: so a trial of minutes has whole hours."""

import time
from dataclasses import dataclass, field
from typing import Any, Self

from cryptoflow.model.trade import Pair
from cryptoflow.settings import HOUR_S
from cryptoflow.simulator.config import VenueName
from cryptoflow.simulator.kraken import SNAPSHOT
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow.venues import VENUES

AGO_S = 22 * HOUR_S
"""How long ago a market begins: less than gaps are filled back, and within a trial it does not come up to now."""

BEGIN_S = 1500
"""After a full hour."""

COINS, QUIET_COIN = ("BTC", "SOL", "ETH"), "ETH"
QUIET_EVERY_S = 1800.0
"""Of the market, from one trade of the quiet coin to the next, on average; its first eight come at one time."""

CONNECT_S = 60.0
"""How long a new socket is waited for."""

HURRY = """
from dataclasses import replace
from cryptoflow.venues import VENUES

for name, factor in {factors}.items():
    kind = type(VENUES[name])
    kind.limits = replace(kind.limits, rest_interval_s=kind.limits.rest_interval_s / factor)
"""
"""What each Python of a trial does first where venues let it ask more often than the real ones do."""


@dataclass
class Market:
    """A venue, for the length of a `with` block.

    Attributes:
        planted: the ids that it has left out for good: holes that nothing fills.
    """

    simulator: Simulator
    planted: dict[Pair, list[range]] = field(default_factory=dict)
    _began_s: float = 0.0

    def __enter__(self) -> Self:
        self.simulator.start()
        self._began_s = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self.simulator.stop()

    @property
    def venue(self) -> VenueName:
        """Its name."""
        return self.simulator.config.venue

    @property
    def lived_s(self) -> float:
        """For how long it trades, in s of our time."""
        return time.monotonic() - self._began_s

    @property
    def now_s(self) -> float:
        """The exchange time now, since the epoch."""
        config = self.simulator.config
        assert config.start_time_s is not None
        return config.start_time_s + self.lived_s * config.market_speed

    @property
    def subscriptions(self) -> dict[Pair, str]:
        """By the pairs that are traded there."""
        pairs = [(str(VENUES[self.venue].market), *pair.split("-")) for pair in self.simulator.config.pairs]
        return {(market, coin, currency): f"0~{market}~{coin}~{currency}" for market, coin, currency in pairs}

    def known_from_s(self, pair: Pair) -> float:
        """Since when, in exchange time, a client may be told trades; of a quiet pair some from before the start."""
        start_s = self.simulator.config.start_time_s
        assert start_s is not None
        return start_s - (SNAPSHOT * QUIET_EVERY_S if pair[1] == QUIET_COIN else 0)

    def plant(self, ids: int) -> None:
        """Leave the next ids of the first pair out."""
        pair, subscription = next(iter(self.subscriptions.items()))
        self.planted.setdefault(pair, []).append(self.simulator.skip_ids(subscription, ids))

    def cut(self) -> None:
        """Drop its sockets, and wait until trades come by another one: who gets none waits longer for each next one."""
        before = self.simulator.connects
        self.simulator.drop_connections()
        self.simulator.wait_until(lambda: self.simulator.connects > before, CONNECT_S)
        sent = self.simulator.sent.trades
        self.simulator.wait_until(lambda: self.simulator.sent.trades > sent, CONNECT_S)


def market(venue: VenueName, trades_per_s: float, speed: float, limit_factor: float, **faults: Any) -> Market:
    """A venue of two busy pairs and a quiet one, that is to be started.

    Args:
        trades_per_s: of our time.
        speed: seconds of the market in one of ours.
        limit_factor: how many times as often as at the real venue its REST may be asked.
    """
    pairs = {coin: f"{coin}-{'USDT' if venue == 'binance' else 'USD'}" for coin in COINS}
    config = SimulatorConfig(
        venue=venue,
        pairs=tuple(pairs.values()),
        rate=trades_per_s,
        start_time_s=(time.time() - AGO_S) // HOUR_S * HOUR_S + BEGIN_S,
        time_step_s=speed / trades_per_s,
        limit_factor=limit_factor,
        faults=Faults(quiet_pairs=(pairs[QUIET_COIN],), quiet_every_s=QUIET_EVERY_S, **faults),
    )
    return Market(Simulator(config))
