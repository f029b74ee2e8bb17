"""The trade: its fields as the feed names them, what makes one readable, and its reader.

Every other part takes the trade's schema from here: the feed's protocol, the Spark schema, the simulator.
Format: CryptoCompare streamer v2, TYPE "0".
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from cryptoflow.errors import UnreadableFrameError

TRADE_TYPE = "0"
"""The feed's TYPE of a trade."""

SELL, BUY, UNKNOWN, REVERSED = 1, 2, 4, 8
"""Bits of a trade's flags."""

NS_PER_S = 1_000_000_000

MAX_TIME_S = 4_102_444_800
"""2100-01-01, in s: an exchange time past it is garbage (milliseconds taken for seconds, most often)."""

MAX_AMOUNT = 1e18
"""No price, quantity or total is larger; it keeps one garbage trade from making a sum infinite."""

MAX_AHEAD_S = 3600
"""An exchange time further than this past the receive time, in s, is garbage: no venue's clock is as wrong."""

NAME = re.compile(r"[^~\s]+")
"""A market or currency: a part of a subscription and of a Kafka key, so it holds no tilde."""

FLAGS = re.compile(r"[0-9]{1,9}")

Name = Annotated[str, Meta(max_length=64)]

Amount = Annotated[float, Meta(ge=0, le=MAX_AMOUNT)]
Nanoseconds = Annotated[int, Meta(ge=0, lt=NS_PER_S)]
Seconds = Annotated[int, Meta(ge=0, lt=MAX_TIME_S)]
Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""What Spark can hold, so that both of the trade's readers take the same frames."""

Direction = Literal["BUY", "SELL"]

Pair = tuple[str, str, str]
"""(market, from coin, to currency): what a candle is of."""

FLAGS_OF: dict[Direction | None, int] = {"SELL": SELL, "BUY": BUY, None: UNKNOWN}
"""The flags of a trade of a side."""


class Trade(msgspec.Struct, frozen=True, gc=False, tag_field="TYPE", tag=TRADE_TYPE, omit_defaults=True):
    """One trade as the feed sends it. Names and flags have patterns, too, which `checked` looks at."""

    market: Name = field(name="M")
    from_coin: Name = field(name="FSYM")
    to_currency: Name = field(name="TSYM")
    flags: str = field(name="F")
    """A bit mask of SELL, BUY, UNKNOWN and REVERSED, in a string."""
    id: Annotated[str, Meta(min_length=1, max_length=128)] = field(name="ID")
    time_s: Seconds = field(name="TS")
    """Exchange time, in whole seconds."""
    quantity: Amount = field(name="Q")
    price: Annotated[float, Meta(gt=0, le=MAX_AMOUNT)] = field(name="P")
    total: Amount = field(name="TOTAL")
    received_s: Long | None = field(name="RTS", default=None)
    """When CryptoCompare received it, in whole seconds; never decides a window."""
    sequence: Long | None = field(name="CCSEQ", default=None)
    """Steps by one for each trade of a pair on a market, in the order CryptoCompare discovered them."""
    rest_ns: Nanoseconds = field(name="TSNS", default=0)
    """The nanoseconds past `time_s`."""
    received_ns: Long | None = field(name="RTSNS", default=None)

    @property
    def event_time_ns(self) -> int:
        """Exchange time, in ns since the epoch."""
        return self.time_s * NS_PER_S + self.rest_ns

    @property
    def pair(self) -> Pair:
        """What a candle is of."""
        return self.market, self.from_coin, self.to_currency

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What tells a trade from its duplicates."""
        return *self.pair, self.id

    @property
    def direction(self) -> Direction | None:
        """The side, from the flags' bits; None where the feed does not know it."""
        return direction(int(self.flags))


def direction(flags: int) -> Direction | None:
    """The side that `flags` tell: exactly one of the bits SELL and BUY, whatever the others say."""
    sides: dict[int, Direction] = {SELL: "SELL", BUY: "BUY"}
    return sides.get(flags & (SELL | BUY))


def kafka_key(pair: Pair) -> bytes:
    """The Kafka key of a pair: all of its trades in one partition, in order."""
    return "~".join(pair).encode()


class _Other(msgspec.Struct, tag_field="TYPE", tag=""):
    """Never sent. A union of two types asks for the TYPE, without which a Trade alone would do."""


DECODE_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What the reader raises on bytes that are no frame; the last on deep nesting."""

_reader = msgspec.json.Decoder(Trade | _Other)
_writer = msgspec.json.Encoder(decimal_format="number")


def read_trade(frame: bytes | str) -> Trade:
    """The trade in one JSON frame.

    Raises:
        UnreadableFrameError: it is no readable trade; the message says why.
    """
    try:
        trade = _reader.decode(frame)
    except DECODE_ERRORS as error:
        raise UnreadableFrameError(str(error)) from None
    if type(trade) is Trade:
        return checked(trade)
    raise UnreadableFrameError("it has an empty TYPE")


def checked(trade: Trade) -> Trade:
    """The decoded trade itself.

    Raises:
        UnreadableFrameError: its names or flags are none.
    """
    naming(trade.market, trade.from_coin, trade.to_currency, trade.flags)
    return trade


def read_trades(frames: Iterable[bytes]) -> list[Trade]:
    """The trades in many frames, in two thirds of the time; who takes them asks `naming` of each.

    Raises:
        UnreadableFrameError: one of them is no readable trade, whatever its names and flags.
    """
    try:
        trades = list(map(_reader.decode, frames))
    except DECODE_ERRORS as error:
        raise UnreadableFrameError(str(error)) from None
    if {*map(type, trades)} <= {Trade}:
        return trades
    raise UnreadableFrameError("one has an empty TYPE")


# Two thirds of the time of reading a trade would go into these patterns, of which the same few texts are asked.
@lru_cache(4096)
def naming(market: str, from_coin: str, to_currency: str, flags: str) -> tuple[str, int]:
    """(MARKET~COIN~CURRENCY, the bits SELL and BUY of the flags).

    Raises:
        UnreadableFrameError: they are no names or flags.
    """
    for name, text, pattern in (
        ("M", market, NAME), ("FSYM", from_coin, NAME), ("TSYM", to_currency, NAME), ("F", flags, FLAGS),
    ):  # fmt: skip
        if not pattern.fullmatch(text):
            raise UnreadableFrameError(f"Expected `str` matching {pattern.pattern!r} - at `$.{name}`")
    return f"{market}~{from_coin}~{to_currency}", int(flags) & (SELL | BUY)


def write_trade(trade: Trade) -> bytes:
    """The JSON frame of a trade, as the feed would send it."""
    return _writer.encode(trade)


def exact_frame(
    pair: tuple[str, str, str],
    id: str,
    time_ns: int,
    *,
    price: Decimal,
    quantity: Decimal,
    total: Decimal,
    direction: Direction | None,
    sequence: int | None,
) -> bytes:
    """The JSON frame of a trade of another feed than CryptoCompare: its dialect, and all digits of the amounts.

    Nothing is checked here: `read_trade` says whether it is a trade.

    Args:
        time_ns: exchange time, since the epoch.
        direction: the side of the taker, the order that came second.
        sequence: what steps by one for each trade of the pair, if anything does.
    """
    amounts: dict[str, Any] = {"price": price, "quantity": quantity, "total": total}  # floats in all that are read
    time_s, rest_ns = divmod(time_ns, NS_PER_S)
    flags = str(FLAGS_OF[direction])
    return write_trade(Trade(*pair, flags, id, time_s, sequence=sequence, rest_ns=rest_ns, **amounts))
