"""Generated trades: seeded random walks, one for each pair."""

import math
import random
import zlib
from collections.abc import Callable, Sequence

from cryptoflow.errors import ConfigError
from cryptoflow.model.trade import NS_PER_S, Trade, write_trade
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.events import Event, Kind, in_ns, pair_of

USD_PRICES = {
    "BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0, "BNB": 600.0, "XRP": 0.6, "ADA": 0.45, "DOGE": 0.12,
    "LTC": 80.0, "USD": 1.0, "USDT": 1.0, "USDC": 1.0, "DAI": 1.0, "EUR": 1.1, "GBP": 1.3, "JPY": 0.0066,
}  # fmt: skip
"""Where the walks of well-known coins start, in US dollars."""

STEP = 2e-4
"""The largest move of a price from one trade to the next, as a part of it."""

WALK_LIMIT = 3.0
"""A price turns round when it has grown or shrunk by this factor, so that an endless feed stays plausible."""

OTHER_FLAGS = ("4", "9", "10")

RECEIVED_AFTER_NS = (20_000_000, 80_000_000)
"""How long after the trade the feed says it received it: at least, at most."""


def usd_price(name: str) -> float:
    """A plausible price of a coin or currency, in US dollars; made from its name where it is not known."""
    return USD_PRICES.get(name) or round(10 ** (zlib.crc32(name.encode()) % 4000 / 1000 - 1), 3)


class Walk:
    """The prices of one pair on one market."""

    def __init__(self, pair: tuple[str, str, str], seed: int) -> None:
        self.pair = pair
        self.start = usd_price(pair[1]) / usd_price(pair[2])
        self.sequence = 0
        self._decimals = max(2, 4 - math.floor(math.log10(self.start)))
        self._rng = random.Random(f"{seed} {pair}")
        self._price = self.start

    def step(self) -> tuple[float, float]:
        """The next (price, quantity)."""
        self.sequence += 1
        self._price *= 1 + STEP * (2 * self._rng.random() - 1)
        self._price = min(max(self._price, self.start / WALK_LIMIT), self.start * WALK_LIMIT)
        price = round(self._price, self._decimals)
        return price, max(round(10 ** (1 + 3 * self._rng.random()) / usd_price(self.pair[1]), 8), 1e-8)


class Generator:
    """A source of events that makes each trade up when it is due.

    Args:
        clock_ns: the wall clock, in ns since the epoch; not asked if the config has a start time.
    """

    dated_back = True

    def __init__(self, config: SimulatorConfig, clock_ns: Callable[[], int]) -> None:
        self._config = config
        self._rng = random.Random(config.seed)
        self._late_rng = random.Random(f"{config.seed} late")
        self._walks: dict[str, Walk] = {}
        self._made = 0
        self._newest_ns = 0
        self._clock_ns = clock_ns if config.start_time_s is None else self._virtual_ns
        self._start_id = self._clock_ns() // 1000 if config.start_id is None else config.start_id

    def _virtual_ns(self) -> int:
        assert self._config.start_time_s is not None
        return in_ns(self._config.start_time_s) + self._made * in_ns(self._config.step_s)

    def next_due_s(self) -> float | None:
        """When the next trade is due, in s since the stream began; None after the last."""
        if self._config.max_trades is not None and self._made >= self._config.max_trades:
            return None
        return self._made / self._config.rate if self._config.rate else 0.0

    def pull(self, subscriptions: Sequence[str]) -> Event:
        """The next trade, of one of the subscriptions."""
        faults = self._config.faults
        self._newest_ns = max(self._newest_ns, self._clock_ns())
        late = faults.late > 0 and self._late_rng.random() < faults.late
        event_ns = max(0, self._newest_ns - (in_ns(faults.late_by_s) if late else 0))
        subscription = subscriptions[int(self._rng.random() * len(subscriptions))]
        frame = write_trade(self._trade(self._walk(subscription), event_ns))
        self._made += 1
        return Event(frame, subscription, self._newest_ns, Kind.LATE if late else Kind.TRADE)

    def _walk(self, subscription: str) -> Walk:
        walk = self._walks.get(subscription)
        if walk is None:
            pair = pair_of(subscription)
            if pair is None:
                raise ConfigError(f"{subscription!r} is no trade subscription; give 0~MARKET~COIN~CURRENCY.")
            walk = self._walks[subscription] = Walk(pair, self._config.seed)
        return walk

    def _trade(self, walk: Walk, event_ns: int) -> Trade:
        price, quantity = walk.step()
        market, from_coin, to_currency = walk.pair
        time_s, time_ns = divmod(event_ns, NS_PER_S)
        least_ns, most_ns = RECEIVED_AFTER_NS
        received_ns = self._newest_ns + least_ns + int(self._rng.random() * (most_ns - least_ns))
        return Trade(
            market=market,
            from_coin=from_coin,
            to_currency=to_currency,
            flags=self._flags(),
            id=str(self._start_id + self._made),
            time_s=time_s,
            quantity=quantity,
            price=price,
            total=quantity * price,
            received_s=received_ns // NS_PER_S,
            sequence=walk.sequence,
            time_ns=time_ns,
            received_ns=received_ns % NS_PER_S,
        )

    def _flags(self) -> str:
        if self._rng.random() < self._config.other_flags_share:
            return self._rng.choice(OTHER_FLAGS)
        return "1" if self._rng.random() < 0.5 else "2"
