"""The benchmark's trades, as frames: made fast, always the same for the same arguments. Only the standard library.

Each of the WRITERS makes half of the pairs: 2,000 trades of exchange time a second together, a fifth of them up to
2 s older than what was sent before, and one of a hundred sent again a moment later, as after a reconnect.
"""

import random
from collections.abc import Iterator

PAIRS = (
    (
        *(("Coinbase", "XRP", "USD"), ("Kraken", "DOGE", "USD"), ("Binance", "ETH", "USDT")),
        *(("Coinbase", "BTC", "USD"), ("Coinbase", "ETH", "USD")),
    ),
    (
        *(("Kraken", "BTC", "USD"), ("Kraken", "ETH", "USD")),
        *(("Coinbase", "SOL", "USD"), ("Kraken", "SOL", "USD"), ("Binance", "SOL", "USDT")),
    ),
)
"""The pairs of each writer. Their keys go to partitions 0 and 1 of four, and to 2 and 3: so each has one writer."""

WRITERS = len(PAIRS)
TRADES_PER_S = 2_000
"""Of exchange time, all writers together."""

DUPLICATES = 0.01
REMEMBERED = 64
"""A duplicate is of one of the writer's last so many trades."""

OLDER = 0.2
OLDER_BY_NS = 2_000_000_000
RECEIVED_AFTER_NS = 60_000_000

MOST_CENTS = 2**27 - 1
"""No price is higher, in cents, nor has it more digits: see `flink_job.PACKED`."""

FIRST_CENTS = {"BTC": 9_000_000, "ETH": 300_000, "SOL": 14_000, "XRP": 220, "DOGE": 100}
FLAGS = ("1",) * 49 + ("2",) * 49 + ("4", "9")
"""Drawn from: 1 SELL, 2 BUY, 4 UNKNOWN, 9 a reversed SELL."""

Sent = tuple[int, int, bytes]
"""(index of the pair among its writer's, receive time in ms since the epoch, frame)."""


class _Pair:
    """A pair's price, a random walk, and its running number."""

    def __init__(self, pair: tuple[str, str, str]) -> None:
        market, from_coin, to_currency = pair
        self.head = f'{{"TYPE":"0","M":"{market}","FSYM":"{from_coin}","TSYM":"{to_currency}","F":"'
        self.cents = FIRST_CENTS[from_coin]
        self.number = 0

    def step(self, by: int) -> int:
        """The price after a step, in cents."""
        self.number += 1
        self.cents = min(max(self.cents + by, 50), MOST_CENTS)
        return self.cents


def sent(writer: int, count: int, start_ns: int) -> Iterator[Sent]:
    """What a writer sends: `count` frames, duplicates among them, from exchange time `start_ns` on."""
    rng = random.Random(writer)
    draw, made = rng.random, _made(writer, rng, start_ns)
    recent = [next(made) for _ in range(min(count, REMEMBERED))]
    yield from recent
    for number in range(len(recent), count):
        if draw() < DUPLICATES:
            yield recent[int(draw() * REMEMBERED)]
        else:
            recent[number % REMEMBERED] = trade = next(made)
            yield trade


def _made(writer: int, rng: random.Random, start_ns: int) -> Iterator[Sent]:
    """Endless trades, without duplicates."""
    draw = rng.random
    pairs = [_Pair(pair) for pair in PAIRS[writer]]
    quantities = [round(rng.expovariate(5) + 0.0001, 8) for _ in range(4096)]
    texts = [f"{quantity:.8f}" for quantity in quantities]
    step_ns = 1_000_000_000 * WRITERS // TRADES_PER_S
    now_ns = start_ns
    while True:
        now_ns += step_ns
        time_ns = now_ns - int(draw() * OLDER_BY_NS if draw() < OLDER else draw() * step_ns)
        at = int(draw() * len(pairs))
        size = int(draw() * 4096)
        pair, flags = pairs[at], FLAGS[int(draw() * 100)]
        cents = pair.step(int(draw() * 11) - 5)
        received_ns = now_ns + RECEIVED_AFTER_NS
        frame = (
            f'{pair.head}{flags}","ID":"{700_000_000 + pair.number}","TS":{time_ns // 1_000_000_000},'
            f'"Q":{texts[size]},"P":{cents // 100}.{cents % 100:02d},"TOTAL":{quantities[size] * cents / 100:.8f},'
            f'"RTS":{received_ns // 1_000_000_000},"CCSEQ":{pair.number},"TSNS":{time_ns % 1_000_000_000},'
            f'"RTSNS":{received_ns % 1_000_000_000}}}'
        )
        yield at, received_ns // 1_000_000, frame.encode()
