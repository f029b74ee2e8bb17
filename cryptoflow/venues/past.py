"""The past of a pair, as a venue's REST tells it.

It is asked for by `Request`s, plain values that whoever has a REST client carries over, and read from the `Answer`s
page by page.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from cryptoflow.errors import FeedBusyError, FeedDisconnectedError, FeedRefusedError
from cryptoflow.model.trade import DECODE_ERRORS, Pair, Trade
from cryptoflow.venues.events import Recorded, Unreadable
from cryptoflow.venues.reading import MAX_SAID, readable

WHOLE = re.compile(r"[0-9]{1,19}")


class Wanted(NamedTuple):
    """A stretch of a pair's past: by ids where `first` and `last` are given, else by exchange time; ends are in it."""

    pair: Pair
    from_ns: int
    """Since the epoch; with ids: no wanted trade is older."""
    to_ns: int
    first: int | None = None
    last: int | None = None

    def holds(self, trade: Trade) -> bool:
        """Whether the trade is part of it."""
        if self.first is None or self.last is None:
            return self.from_ns <= trade.event_time_ns <= self.to_ns
        return self.first <= int(trade.id) <= self.last


class Request(NamedTuple):
    """One GET request of a venue's REST: a plain value, so that it can be kept and sent again."""

    wanted: Wanted
    path: str
    query: tuple[tuple[str, str], ...] = ()
    state: tuple[int, ...] = ()
    """What the reader of its answer has to know besides."""

    @property
    def target(self) -> str:
        """The path and the query, as they stand in a URL."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


class Answer(NamedTuple):
    """The answer to a request."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}
    """By their names in lower case."""


class Page(NamedTuple):
    """What an answer holds: trades of the wanted stretch, in no certain order, and what to ask next."""

    trades: Sequence[Recorded] = ()
    next: Request | None = None
    unreadable: Sequence[Unreadable] = ()
    beyond: Sequence[Recorded] = ()
    """Trades that are not of the stretch: of one by time, the last before it and the first after it among them, as far
    as the venue has them. Where ids are consecutive, they prove that none is missing at its ends."""
    lost: str = ""
    """Which trades the venue may have and can't be asked for, in a sentence."""


def page_of(
    wanted: Wanted,
    trades: Sequence[Recorded],
    next_: Request | None,
    unreadable: Sequence[Unreadable] = (),
    lost: str = "",
) -> Page:
    """A page with what of `trades` is wanted, and what is not."""
    held = [wanted.holds(trade) for trade, _ in trades]
    found = [each for each, is_wanted in zip(trades, held, strict=True) if is_wanted]
    beyond = [each for each, is_wanted in zip(trades, held, strict=True) if not is_wanted]
    return Page(found, next_, unreadable, beyond, lost)


def by_id(recorded: Recorded) -> int:
    """The id of a trade whose venue counts them."""
    return int(recorded[0].id)


def answered(answer: Answer, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """The body of an answer, decoded.

    Raises:
        FeedBusyError: the venue asks for fewer requests.
        FeedDisconnectedError: it has trouble of its own, or the body is broken.
        FeedRefusedError: it refuses the request.
    """
    said = f"HTTP {answer.status} {answer.body[:MAX_SAID].decode(errors='replace')}".strip()
    if answer.status in (418, 429):
        raise FeedBusyError(said, whole_number(answer.headers.get("retry-after")))
    if answer.status >= 500:
        raise FeedDisconnectedError(said)
    if answer.status != 200:
        raise FeedRefusedError(said)
    try:
        return decoder.decode(answer.body)
    except DECODE_ERRORS as error:
        raise FeedDisconnectedError(f"an answer that can't be read ({error})") from None


def past_trades(
    rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], Recorded]
) -> tuple[list[Recorded], list[Unreadable]]:
    """As `readable`, of an answer.

    Raises:
        FeedRefusedError: there are several rows, and none is a trade: it is not known where to go on.
    """
    trades, unreadable = readable(rows, read)
    if len(unreadable) > 1 and not trades:
        raise FeedRefusedError(f"none of {len(unreadable)} rows can be read ({unreadable[0].reason})")
    return trades, unreadable


def whole_number(said: object) -> int | None:
    """The whole number that a venue says, as such or as a text; None: it is none, or above all ids and times."""
    text = said if isinstance(said, str) else str(said)
    return int(text) if WHOLE.fullmatch(text) else None
