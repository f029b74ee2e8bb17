"""The server of the page and its API: made of its parts, guarded, and run in a thread."""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cryptoflow import __version__
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, WebSettings, home
from cryptoflow.web.api import Parts, answer_failures, failure, router
from cryptoflow.web.events import Hub
from cryptoflow.web.health import HealthDesk
from cryptoflow.web.live import Live
from cryptoflow.web.scraped import Scraped
from cryptoflow.web.store import Store
from cryptoflow.web.tail import Received, Tail

log = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")

LIBRARY = "vendor/lightweight-charts.standalone.production.js"
"""Where the package `lwcharts` has TradingView's file, as they publish it."""

HEARTBEAT_S = 15.0
KEEP_CHANNEL_S = 120.0
"""How long what happens is kept for viewers who lost their connection."""

COOKIE = "cryptoflow_token"


class Server:
    """The page and its API over a topic and tables that others fill."""

    def __init__(
        self, web: WebSettings, kafka: KafkaSettings, cassandra: CassandraSettings, spark: SparkSettings
    ) -> None:
        self._web, self._kafka = web, kafka
        self._store = Store(cassandra)
        self._hub = Hub(secrets.token_hex(4), time.monotonic, KEEP_CHANNEL_S, HEARTBEAT_S)
        self._live = Live(self._hub, self._store, spark, kafka.topic)
        self._tail = Tail(kafka, self._live.since_ms, self._take)
        self._loop: asyncio.AbstractEventLoop | None = None
        desk = HealthDesk(self._live, self._tail, self._store, web.dagster_url)
        self._parts = Parts(self._store, self._live, self._hub, desk, spark.window_s)
        self._scraped = Scraped(home(), kafka, cassandra, spark.window_s)

    def app(self) -> FastAPI:
        """The application, for a server that speaks ASGI."""
        app = FastAPI(
            title="cryptoflow",
            version=__version__,
            description="Candles of live crypto trades, and what is known of them. It only reads.",
            openapi_url="/api/openapi.json",
            docs_url=None,  # its page comes from elsewhere, and this one works without internet
            redoc_url=None,
            lifespan=self._living,
        )
        app.state.parts = self._parts
        app.include_router(router)
        answer_failures(app)
        if self._web.token:
            app.add_middleware(Guard, token=self._web.token)
        app.get("/metrics", include_in_schema=False)(self._scraped.answer)
        app.get("/vendor/lightweight-charts.js", include_in_schema=False)(_library)
        app.mount("/", StaticFiles(directory=STATIC, html=True))
        return app

    @asynccontextmanager
    async def _living(self, app: FastAPI) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._tail.start()
        following = asyncio.create_task(self._live.follow_tables())
        following.add_done_callback(_tell_mistake)
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await asyncio.to_thread(self._tail.close)
            await asyncio.to_thread(self._store.close)
            await asyncio.to_thread(self._scraped.close)

    def _take(self, received: Sequence[Received]) -> None:
        assert self._loop
        asyncio.run_coroutine_threadsafe(self._live.take(received), self._loop).result()


def _tell_mistake(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("The page follows the tables no more.", exc_info=error)


class Guard:
    """Lets in who knows the token: in the header `Authorization: Bearer`, the address (`?token=`) or a cookie."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the application answer."""
        answer = self._answer(Request(scope)) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    def _answer(self, request: Request) -> Response | None:
        """None: the application's."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = request.query_params.get("token")
        known = (bearer, given or "", request.cookies.get(COOKIE, ""))
        if not any(hmac.compare_digest(each.encode(), self._token.encode()) for each in known):
            return failure(401, "The token is missing or wrong: open the address with ?token=..., once.", "token")
        if given and request.url.path == "/":  # out of the address, where others could read it
            moved = RedirectResponse("/", 303)
            moved.set_cookie(
                COOKIE, self._token, httponly=True, samesite="strict", secure=request.url.scheme == "https"
            )
            return moved
        return None


def library_path() -> Path | None:
    """TradingView's lightweight-charts, out of the package `lwcharts`; None: it is not installed."""
    found = find_spec("lwcharts")
    path = Path(found.origin).parent / LIBRARY if found and found.origin else None
    return path if path and path.is_file() else None


async def _library() -> Response:
    path = library_path()
    if path is None:
        return failure(404, "The chart's library is missing: `make setup`, or `pip install lwcharts`, brings it.")
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})


def uvicorn_server(server: Server) -> uvicorn.Server:
    """What answers at a socket, until its `should_exit` is set."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what we have to say goes to our own logs
    config = uvicorn.Config(
        server.app,
        factory=True,
        access_log=False,  # it would hold tokens
        log_config=None,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=30,
    )
    return uvicorn.Server(config)
