"""The API: what it answers, and how it says that it can't. It only reads."""

import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from cryptoflow.errors import CassandraError, ParameterError
from cryptoflow.model.candle import CandleRow, DirectionRow
from cryptoflow.tables import pages
from cryptoflow.tables.reader import Series
from cryptoflow.tables.schema import HourRow
from cryptoflow.web.events import RETRY, Hub
from cryptoflow.web.health import Health, HealthDesk
from cryptoflow.web.live import Live
from cryptoflow.web.parameters import (
    NAME_PATTERN,
    PAIR_PATTERN,
    AskedFormat,
    AskedPair,
    AskedSpan,
    Limit,
    Window,
    pair_of,
)
from cryptoflow.web.rows import MEDIA_TYPES, Format, encoded, row_model
from cryptoflow.web.store import Store
from cryptoflow.web.stream import EventStream

log = logging.getLogger(__name__)

MOST_SERIES = 16
"""That one viewer watches: a pair on each of so many markets."""


@dataclass(frozen=True)
class Parts:
    """What answers the requests."""

    store: Store
    live: Live
    hub: Hub
    desk: HealthDesk
    base_window_s: int
    """The length of the candles that are made of trades, in s."""


class WindowOfPair(BaseModel):
    """Candles of one length that a pair has."""

    window_seconds: int
    first_date: datetime
    last_date: datetime


class PairOfMarket(BaseModel):
    """A pair on a market."""

    market: str
    pair: str = Field(examples=["BTC-USD"])
    windows: list[WindowOfPair]


class Fault(BaseModel):
    """Why a request got no answer."""

    parameter: str | None
    """The parameter at fault; None: it is not the request's fault."""
    message: str


class Failure(BaseModel):
    """What every failed request gets."""

    error: Fault


async def only_known_parameters(request: Request) -> None:
    """Refuses a parameter that the route has not: a misspelt one would silently ask for something else.

    Raises:
        ParameterError: there is one.
    """
    app: FastAPI = request.app
    known = app.openapi()["paths"][request.url.path]["get"].get("parameters", ())
    for name in request.query_params:
        if name not in {"token", *(each["name"] for each in known)}:
            raise ParameterError(name, "there is no such parameter")


def _rows_response(kind: type[NamedTuple], name: str) -> dict[int | str, dict[str, Any]]:
    ref = {"type": "array", "items": row_model(name, kind).model_json_schema()}
    content: dict[str, Any] = {media_type: {} for media_type in MEDIA_TYPES.values()} | {
        MEDIA_TYPES[Format.JSON]: {"schema": ref}
    }
    link = {"description": "rel=next: the page before these rows", "schema": {"type": "string"}}
    return {200: {"description": "the rows, by time", "content": content, "headers": {"Link": link}}}


router = APIRouter(
    prefix="/api",
    dependencies=[Depends(only_known_parameters)],
    responses={
        "4XX": {"model": Failure, "description": "a parameter can't be used, or names what is not there"},
        "5XX": {"model": Failure, "description": "Cassandra is away, or the server made a mistake"},
    },
)


def parts_of(request: Request) -> Parts:
    """What answers the requests of this server."""
    found: Parts = request.app.state.parts
    return found


Answering = Annotated[Parts, Depends(parts_of)]


@router.get("/pairs", summary="Which candles there are")
def pairs(parts: Answering) -> list[PairOfMarket]:
    """The pairs of each market, with the lengths and the dates of their candles; those that only form are there too."""
    found: dict[tuple[str, str], list[WindowOfPair]] = {}
    for (market, coin, currency, window_s), dates in sorted((parts.live.forming() | parts.store.series()).items()):
        window = WindowOfPair(window_seconds=window_s, first_date=dates[-1], last_date=dates[0])
        found.setdefault((market, f"{coin}-{currency}"), []).append(window)
    return [PairOfMarket(market=market, pair=pair, windows=windows) for (market, pair), windows in found.items()]


@router.get("/candles", summary="Candles of a pair on a market", responses=_rows_response(CandleRow, "Candle"))
def candles(
    request: Request,
    parts: Answering,
    pair: AskedPair,
    span: AskedSpan,
    format: AskedFormat,
    window: Window = None,
    limit: Limit = 500,
) -> Response:
    """The newest candles that begin in a stretch of time, the oldest of them first."""
    series = Series(*pair, window or parts.base_window_s)
    dates = _dates(parts, series)
    rows = parts.store.ask(lambda session: pages.candles(session, series, dates, span, limit))
    return _rows(request, CandleRow, rows, format, limit, lambda row: row.window_start)


@router.get("/hours", summary="Verdicts, hour by hour", responses=_rows_response(HourRow, "Hour"))
def hours(
    request: Request, parts: Answering, pair: AskedPair, span: AskedSpan, format: AskedFormat, limit: Limit = 500
) -> Response:
    """What is known of the newest hours in a stretch of time, the oldest of them first."""
    dates = parts.store.hour_dates(pair)
    rows = parts.store.ask(lambda session: pages.hours(session, pair, dates, span, limit))
    return _rows(request, HourRow, rows, format, limit, lambda row: row.hour)


@router.get(
    "/windows", summary="Newest rows of trademsgs1minutewindow", responses=_rows_response(DirectionRow, "Direction")
)
def windows(request: Request, parts: Answering, format: AskedFormat, limit: Limit = 50) -> Response:
    """The newest rows of all pairs, a row for each side, the oldest of them first."""
    dates = sorted({date for series in parts.store.series() for date in parts.store.dates(series)}, reverse=True)
    rows = parts.store.ask(lambda session: pages.windows(session, dates, limit))
    return _rows(request, DirectionRow, rows, format)


@router.get("/health", summary="How all is doing")
def health(parts: Answering) -> Health:
    """The log, the tables, the feeds, and what waits for repair."""
    return parts.desk.now(parts.hub.viewers)


@router.get(
    "/live",
    summary="Live candles, as server-sent events",
    response_class=StreamingResponse,
    responses={200: {"description": "events `candle`, `hour`, `reset`", "content": {"text/event-stream": {}}}},
)
async def live(
    parts: Answering,
    market: Annotated[list[Annotated[str, Query(pattern=NAME_PATTERN)]], Query(max_length=MOST_SERIES)],
    pair: Annotated[list[Annotated[str, Query(pattern=PAIR_PATTERN)]], Query(max_length=MOST_SERIES)],
    window: Window = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventStream:
    """Each candle of the pair on each market named, whenever it changes: one that forms, or its row in the table.

    `market` and `pair` may be there more than once: in pairs, or with one pair for all markets. `candle` has a row as
    `/api/candles` does, and whether it is `stored`; `hour` one as `/api/hours`. The ids let a client that reconnects
    miss nothing: it gets the newest state of all that changed meanwhile, or `reset` if that is not known any more.
    """
    if len(pair) not in (1, len(market)):
        raise ParameterError("pair", "there must be one, or one for each market")
    asked = zip(market, pair * len(market) if len(pair) == 1 else pair, strict=True)
    wanted = {Series(*pair_of(*each), window or parts.base_window_s) for each in asked}
    return EventStream(_events(parts, wanted, last_event_id))


async def _events(parts: Parts, wanted: set[Series], last_id: str | None) -> AsyncGenerator[bytes, None]:
    """What a viewer gets; it is one from here on, as who has left by now is never asked to leave."""
    new = [series for series in wanted if series not in parts.hub.channels]
    viewer = parts.hub.watch(wanted, last_id)
    try:
        for series in new:
            parts.live.begin(series)
        yield RETRY
        async for message in viewer.messages():
            yield message
    finally:
        parts.hub.leave(viewer)


def _dates(parts: Parts, series: Series) -> list[datetime]:
    """The dates of a series; a ParameterError names what is unknown of it."""
    if parts.store.knows(series):
        return parts.store.dates(series)
    alike = {each for each in parts.store.series() if each.market == series.market}
    if not alike:
        raise ParameterError("market", f"there is no candle of {series.market}", missing=True)
    if not any(each[:3] == series[:3] for each in alike):
        coins = f"{series.from_coin}-{series.to_currency}"
        raise ParameterError("pair", f"there is no candle of {coins} on {series.market}", missing=True)
    raise ParameterError("window", f"there is no candle of {series.window_s} s of that pair", missing=True)


def _rows(
    request: Request,
    kind: type[NamedTuple],
    newest_first: Sequence[Any],
    format: Format,
    limit: int | None = None,
    time_of: Callable[[Any], datetime] | None = None,
) -> Response:
    body = encoded(kind, newest_first[::-1], format)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if time_of and len(newest_first) == limit:
        before = {**request.query_params, "to": time_of(newest_first[-1]).isoformat()}
        before.pop("token", None)
        headers["Link"] = f'<{request.url.path}?{urlencode(before)}>; rel="next"'
    return Response(body, media_type=MEDIA_TYPES[format], headers=headers)


def answer_failures(app: FastAPI) -> None:
    """Have all failed requests answered in one shape."""

    @app.exception_handler(ParameterError)
    async def _refused(request: Request, error: ParameterError) -> JSONResponse:
        return failure(404 if error.missing else 400, str(error), error.name)

    @app.exception_handler(RequestValidationError)
    async def _unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
        [first, *_] = error.errors()
        name = _name_of(first["loc"])
        return failure(400, f"{name}: {first['msg']}.", name)

    @app.exception_handler(CassandraError)
    async def _away(request: Request, error: CassandraError) -> JSONResponse:
        return failure(503, str(error))

    @app.exception_handler(Exception)
    async def _broken(request: Request, error: Exception) -> JSONResponse:
        log.error("The page could not answer %s", request.url.path, exc_info=error)
        return failure(500, "The server made a mistake; its log says which.")

    @app.exception_handler(404)
    async def _nowhere(request: Request, error: Exception) -> JSONResponse:
        return failure(404, f"There is nothing at {request.url.path}; /api/openapi.json says what there is.")


def _name_of(place: Iterable[object]) -> str:
    """The parameter in pydantic's place of an error: (query, limit), or (query, market, 0)."""
    return str(list(place)[1])


def failure(code: int, message: str, parameter: str | None = None) -> JSONResponse:
    """The answer to a request that failed."""
    found = Failure(error=Fault(parameter=parameter, message=message))
    return JSONResponse(found.model_dump(), code, headers={"Cache-Control": "no-store"})
