"""The parameters of the API, each stated once: its name, meaning and limits."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header, Query
from pydantic import AfterValidator

from cryptoflow.errors import ParameterError
from cryptoflow.model.trade import Pair
from cryptoflow.settings import HOUR_S
from cryptoflow.tables.pages import ALWAYS, Span
from cryptoflow.web.rows import MEDIA_TYPES, Format

DAY_S = 24 * HOUR_S
MOST_ROWS = 50_000
"""A month of minutes."""

NAME_PATTERN = r"^[^~\s]{1,64}$"
PAIR_PATTERN = r"^[^~\s-]{1,64}-[^~\s]{1,64}$"


def _utc(moment: datetime) -> datetime:
    """In UTC; what is beyond `ALWAYS`, where a calendar may end before, is its edge."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(ALWAYS.start, min(aware, ALWAYS.end)).astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_utc)]

MarketName = Annotated[
    str, Query(pattern=NAME_PATTERN, description="a market, such as Coinbase", examples=["Coinbase"])
]
PairName = Annotated[str, Query(pattern=PAIR_PATTERN, description="a pair, such as BTC-USD", examples=["BTC-USD"])]
Window = Annotated[int | None, Query(ge=1, le=DAY_S, description="length of a candle's window, in s; that of the run")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="how many rows at most: the newest of them")]
From = Annotated[
    Moment | None, Query(alias="from", description="from this time on: ISO 8601, UTC if it names no zone, or Unix s")
]
To = Annotated[Moment | None, Query(description="before this time; the same")]
Wanted = Annotated[Format | None, Query(alias="format", description="wins over the header Accept")]
Accept = Annotated[str, Header(include_in_schema=False)]


def span(start: From = None, to: To = None) -> Span:
    """The stretch of time that a request is for.

    Raises:
        ParameterError: it is none.
    """
    found = Span(start or ALWAYS.start, to or ALWAYS.end)
    if found.start >= found.end:
        raise ParameterError("to", "it must be later than `from`")
    return found


def pair_of(market: MarketName, pair: PairName) -> Pair:
    """What is asked for, of one market."""
    coin, _, currency = pair.upper().partition("-")
    return market, coin, currency


def format_of(wanted: Wanted = None, accept: Accept = "") -> Format:
    """What is asked for by name, else the first that the header Accept names, else JSON."""
    named = (each.partition(";")[0].strip() for each in accept.split(","))
    found = (format for name in named for format, media_type in MEDIA_TYPES.items() if name == media_type)
    return wanted or next(found, Format.JSON)


AskedSpan = Annotated[Span, Depends(span)]
AskedPair = Annotated[Pair, Depends(pair_of)]
AskedFormat = Annotated[Format, Depends(format_of)]
