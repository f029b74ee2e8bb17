"""What venues send, read: times, amounts and rows made trades, exact as sent, and names and secrets in texts."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Annotated
from urllib.parse import quote, quote_plus

import msgspec
from msgspec import Meta

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import (
    DECODE_ERRORS,
    MAX_AHEAD_S,
    MAX_AMOUNT,
    NS_PER_S,
    TRADE_TYPE,
    Direction,
    Pair,
    exact_frame,
    read_trade,
)
from cryptoflow.venues.events import Recorded, Unreadable

MAX_SAID = 1000
"""Characters kept of each text in a frame that is not a trade: more is no message for people, and fills memory."""

EXACT = Context(prec=80, traps=[])
"""Keeps all digits of the product of two amounts."""

UTC = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z", re.ASCII)

IN_THE_FUTURE = "exchange time is in the future"

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A trade id that is a number."""


class AmountsRow(msgspec.Struct, frozen=True, array_like=True):
    """A row all of whose decimals are amounts; one that is too large or no number makes it unreadable."""

    def __post_init__(self) -> None:
        amounts = [each for each in msgspec.structs.astuple(self) if isinstance(each, Decimal)]
        if not all(each.is_finite() and 0 <= each <= MAX_AMOUNT for each in amounts):
            raise ValueError("it holds what is no amount")


def recorded(
    pair: Pair,
    number: int,
    time_ns: int,
    price: Decimal,
    quantity: Decimal,
    taker: Direction | None,
    now_s: float | None = None,
    *,
    consecutive: bool = True,
) -> Recorded:
    """A venue's own trade, its numbers exact as sent.

    Args:
        number: its id.
        taker: the side of the order that came second; None: nobody's.
        now_s: when it was received, in s since the epoch; None: long ago.
        consecutive: whether the ids of a pair step by one, so that they are its sequence, too.

    Raises:
        UnreadableFrameError: it breaks a trade's limits; the message says which.
    """
    frame = exact_frame(
        pair,
        str(number),
        time_ns,
        price=price,
        quantity=quantity,
        total=EXACT.multiply(price, quantity),
        direction=taker,
        sequence=number if consecutive else None,
    )
    trade = read_trade(frame)
    if now_s is not None and trade.time_s > now_s + MAX_AHEAD_S:
        raise UnreadableFrameError(IN_THE_FUTURE)
    return trade, frame


def utc_ns(text: str) -> int:
    """The ns since the epoch of a time in UTC, such as 2026-08-25T03:35:57.096368Z; digits past the ninth are cut.

    Raises:
        UnreadableFrameError: it is no such time.
    """
    match = UTC.fullmatch(text)
    if match is None:
        raise UnreadableFrameError(f"{text[:MAX_SAID]} is no time in UTC")
    return _second(match[1]) * NS_PER_S + int(f"{match[2] or '':0<9.9}")


@lru_cache(64)
def _second(text: str) -> int:
    try:
        return int(datetime.fromisoformat(f"{text}+00:00").timestamp())
    except ValueError:
        raise UnreadableFrameError(f"{text} is no time") from None


def hide(text: str, secret: str | None) -> str:
    """`text` without the `secret`, as it is or as a URL or JSON holds it."""
    in_json = msgspec.json.encode(secret)[1:-1].decode()
    for form in {secret, in_json, quote(secret, safe=""), quote_plus(secret)} if secret else ():
        text = text.replace(form, "***")
    return text


def subscribed_pairs(subscriptions: Iterable[str]) -> Iterator[Pair]:
    """The pairs of those that are trades, `0~MARKET~COIN~CURRENCY`."""
    for subscription in subscriptions:
        match subscription.split("~"):
            case [channel, market, coin, currency] if channel == TRADE_TYPE:
                yield market, coin, currency


def readable(
    rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], Recorded]
) -> tuple[list[Recorded], list[Unreadable]]:
    """The rows of a frame or an answer that are trades, in their order, and those that are not."""
    trades, unreadable = [], []
    for row in rows:
        try:
            trades.append(read(row))
        except (*DECODE_ERRORS, UnreadableFrameError) as error:
            unreadable.append(Unreadable(bytes(row), str(error)))
    return trades, unreadable
