"""Generated trades: seeded random walks, one for each pair."""

import hashlib
import math
import random
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
"""No price grows or shrinks by more than this factor, so that an endless feed stays plausible."""

PERIODS = (60, 400, 2_500, 16_000, 100_000, 640_000, 4_000_000)
"""The waves that a price is made of, in trades; the longer, the higher, as in a random walk."""

WAVE_HEIGHT = STEP / 4 / sum(period**-0.5 for period in PERIODS) / math.pi
"""Of a wave of period 1, in parts of the price: so all together move by half a STEP at most."""

QUANTITY_DECIMALS = 8

OTHER_FLAGS = ("4", "9", "10")

MASK = 2**64 - 1
MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

ONE_BITS = 24
ONE = 2**ONE_BITS
"""1, as the factor of a price."""

UNIT_BITS = 36
"""Of a price where a walk starts: with a factor of up to WALK_LIMIT it stays below 63."""

SINE_BITS, TABLE_BITS = 20, 16
SINES = [round(math.sin(2 * math.pi * turn / 2**TABLE_BITS) * 2**SINE_BITS) for turn in range(2**TABLE_BITS)]
SINE_ARRAY = np.array(SINES)

POWER_BITS = 12
POWERS = [round(1000 ** (share / 2**16) * 2**POWER_BITS) for share in range(2**16)]
"""Quantities are spread evenly over three orders of magnitude."""
POWER_ARRAY = np.array(POWERS)

RECEIVED_AFTER_NS = (20_000_000, 80_000_000)
"""How long after the trade the feed says it received it: at least, at most."""


def usd_price(name: str) -> float:
    """A plausible price of a coin or currency, in US dollars; made from its name where it is not known."""
    return USD_PRICES.get(name) or round(10 ** (zlib.crc32(name.encode()) % 4000 / 1000 - 1), 3)


class Draw(NamedTuple):
    """What one number of a walk gives."""

    price: int
    """In units of 10 ** -price_decimals."""
    quantity: int
    """In units of 10 ** -QUANTITY_DECIMALS."""
    buy: bool
    """Whether the taker bought."""


class Draws(NamedTuple):
    """What many numbers of a walk give, as `Draw` has it."""

    price: NDArray[np.int64]
    quantity: NDArray[np.int64]
    buy: NDArray[np.bool_]


class Walk:
    """The trades of one pair on one market but for their time: each a function of its number, whichever is asked first.

    Prices move as a random walk does, near at hand and from afar, and never leave WALK_LIMIT. All is computed in whole
    numbers of 64 bits, so that one trade and an array of many come to the same.
    """

    def __init__(self, pair: tuple[str, str, str], seed: int) -> None:
        self.pair = pair
        self.start = usd_price(pair[1]) / usd_price(pair[2])
        self.price_decimals = max(2, 4 - math.floor(math.log10(self.start)))
        self._key = int.from_bytes(hashlib.blake2b(f"{seed} {pair}".encode(), digest_size=8).digest())
        unit = self.start * 10**self.price_decimals
        self._unit_bits = max(0, UNIT_BITS - math.ceil(unit).bit_length())
        self._unit = round(unit * 2**self._unit_bits)
        self._least_quantity = max(1, round(10 ** (QUANTITY_DECIMALS + 1) / usd_price(pair[1])))
        rng = random.Random(self._key)
        self._waves = [
            (2**64 // period, rng.getrandbits(64), round(WAVE_HEIGHT * math.sqrt(period) * 2**SINE_BITS))
            for period in PERIODS
        ]
        self._begin = sum(SINES[phase >> 64 - TABLE_BITS] * height for _, phase, height in self._waves)

    def random(self, number: int) -> int:
        """64 random bits of a number, any whole one."""
        return mixed(self._key, number)

    def draw(self, number: int, lead: int) -> Draw:
        """What a trade is; its price and side are those of the number `lead`, which may be itself."""
        bits = mixed(self._key, number)
        lead_bits = bits if lead == number else mixed(self._key, lead)
        moved = -self._begin
        for turn, phase, height in self._waves:
            moved += SINES[(lead * turn + phase & MASK) >> 64 - TABLE_BITS] * height
        factor = (ONE + (moved >> 2 * SINE_BITS - ONE_BITS)) * (ONE + _noise(lead_bits)) >> ONE_BITS
        price = self._unit * factor >> ONE_BITS + self._unit_bits
        quantity = self._least_quantity * POWERS[bits >> 20 & 0xFFFF] >> POWER_BITS
        return Draw(price, quantity, bool(lead_bits >> 40 & 1))

    def draws(self, numbers: NDArray[np.int64], leads: NDArray[np.int64]) -> Draws:
        """The same of many."""
        bits, lead_bits = (_mixed_many(self._key, each) for each in (numbers, leads))
        moved = np.full(len(numbers), -self._begin)
        for turn, phase, height in self._waves:
            angle = leads.view(np.uint64) * np.uint64(turn) + np.uint64(phase)
            moved += SINE_ARRAY[angle >> np.uint64(64 - TABLE_BITS)] * height
        noise = _noise((lead_bits & np.uint64(0xFFFFF)).astype(np.int64))
        factor = (ONE + (moved >> 2 * SINE_BITS - ONE_BITS)) * (ONE + noise) >> ONE_BITS
        price = self._unit * factor >> ONE_BITS + self._unit_bits
        quantity = self._least_quantity * POWER_ARRAY[bits >> np.uint64(20) & np.uint64(0xFFFF)] >> POWER_BITS
        return Draws(price, quantity, (lead_bits >> np.uint64(40) & np.uint64(1)).astype(np.bool_))


def _noise(bits: Any) -> Any:
    """A random move of half a STEP at most, up or down, from the last 20 bits."""
    return ((bits & 0xFFFFF) - 0x80000) * round(STEP * ONE) >> 20


def mixed(key: int, number: int) -> int:
    """64 bits that look random, the same for the same key and number.

    The generator is splitmix64: its state is a multiple of the number, so it can be asked anywhere.
    """
    bits = (key + number * MIX[0]) & MASK
    bits = (bits ^ bits >> 30) * MIX[1] & MASK
    bits = (bits ^ bits >> 27) * MIX[2] & MASK
    return bits ^ bits >> 31


def _mixed_many(key: int, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    bits = numbers.view(np.uint64) * np.uint64(MIX[0]) + np.uint64(key)
    bits = (bits ^ bits >> np.uint64(30)) * np.uint64(MIX[1])
    bits = (bits ^ bits >> np.uint64(27)) * np.uint64(MIX[2])
    return bits ^ bits >> np.uint64(31)


class Generator:
    """A source of events that makes each trade up when it is due, of whichever pair is subscribed.

    Args:
        clock_ns: the wall clock, in ns since the epoch; not asked if the config has a start time.
    """

    dated_back = True

    def __init__(self, config: SimulatorConfig, clock_ns: Callable[[], int]) -> None:
        self._config = config
        self._rng = random.Random(config.seed)
        self._late_rng = random.Random(f"{config.seed} late")
        self._walks: dict[str, Walk] = {}
        self._sequences: Counter[str] = Counter()
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
        frame = write_trade(self._trade(self._walk(subscription), self._sequences[subscription], event_ns))
        self._sequences[subscription] += 1
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

    def _trade(self, walk: Walk, number: int, event_ns: int) -> Trade:
        draw = walk.draw(number, number)
        price, quantity = draw.price / 10**walk.price_decimals, draw.quantity / 10**QUANTITY_DECIMALS
        market, from_coin, to_currency = walk.pair
        time_s, rest_ns = divmod(event_ns, NS_PER_S)
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
            sequence=number + 1,
            rest_ns=rest_ns,
            received_ns=received_ns % NS_PER_S,
        )

    def _flags(self) -> str:
        if self._rng.random() < self._config.other_flags_share:
            return self._rng.choice(OTHER_FLAGS)
        return "1" if self._rng.random() < 0.5 else "2"
