"""A simulator in a thread of its own: what tests and notebooks hold."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

from cryptoflow.errors import ConfigError
from cryptoflow.model.trade import Trade
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.events import in_ns
from cryptoflow.simulator.limits import Tally
from cryptoflow.simulator.market import Market, Tape
from cryptoflow.simulator.sent import Ids, Sent
from cryptoflow.simulator.server import Server

T = TypeVar("T")


class Simulator:
    """A feed server for the length of a `with` block, or from `start` to `stop`.

    Raises:
        ConfigError: the replay file can't be read; at its end, if the file is damaged further on.
        ServiceError: the port is taken.
    """

    def __init__(self, config: SimulatorConfig | None = None) -> None:
        self.config = config or SimulatorConfig()
        self.finished = threading.Event()
        """Set when the replay's file, or `max_trades`, has been sent completely."""
        self._url = ""
        self._rest_url: str | None = None
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: Exception | None = None
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once it listens."""
        self._thread.start()
        try:
            self.wait_until(lambda: self._url != "", timeout_s=30)
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Closes all sockets; returns once the thread has ended. A second call does nothing."""
        self._end()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _end(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """Of the websocket, `ws://HOST:PORT` and the venue's path; of CryptoCompare any API key is good, unless the
        faults list some."""
        return self._url

    @property
    def rest_url(self) -> str:
        """Of the venue's REST: `http://HOST:PORT`, to which its paths are added.

        Raises:
            ConfigError: the venue has none.
        """
        if self._rest_url is None:
            raise ConfigError("CryptoCompare's simulator has no REST; take another venue.")
        return self._rest_url

    @property
    def sent(self) -> Sent:
        """How much was sent so far."""
        return replace(self._running.sent)

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._running.clients)

    @property
    def connects(self) -> int:
        """How many clients were let in so far."""
        return self._running.connects

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What the connected clients are subscribed to, client by client."""
        return tuple(item for client in tuple(self._running.clients) for item in client.subscriber.subscriptions)

    def sent_frames(self) -> list[bytes]:
        """Every frame sent to clients so far, in order, but the protocol's answers, errors and heartbeats.

        Raises:
            ConfigError: the config does not say `record=True`.
        """
        if not self.config.record:
            raise ConfigError("The simulator keeps no frames; make it with SimulatorConfig(record=True).")
        return list(self._running.recorded)

    @property
    def tally(self) -> Tally:
        """What the REST was asked for, what of it was refused, and which limits were broken."""
        tally = self._running.venue.tally
        return Tally(Counter(tally.requests), Counter(tally.refused), Counter(tally.broken))

    def trades(self, subscription: str, begin_s: float | None = None, end_s: float | None = None) -> Iterator[Trade]:
        """All that a venue's market has traded of a pair so far, in order, whether it was sent or not.

        Args:
            begin_s: of that exchange time on, in s since the epoch; None: since the simulator was started.
            end_s: to before that time; None: until now.
        """
        tape = self._tape(subscription)
        first = tape.live if begin_s is None else tape.at(in_ns(begin_s))
        end = tape.next if end_s is None else tape.at(in_ns(end_s))
        return (tape.trade(number).trade() for number in tape.between(first, end))

    def unsent(self, subscription: str) -> list[int]:
        """The ids of the trades since the start that no client was sent."""
        tape, told = self._tape(subscription), self._running.told.get(subscription, Ids())
        ids = (number + tape.offset for number in tape.between(tape.live, tape.next))
        return [id_ for id_ in ids if id_ not in told]

    def skip_ids(self, subscription: str, ids: int) -> range:
        """Leaves the next ids of a pair out, for good: a hole that nothing can fill. Gives them."""
        market = self._market
        return self._called(lambda: market.skip(subscription, ids))

    def refuse(self, for_s: float) -> None:
        """Drops all sockets, and refuses everything by HTTP 503 for a while; 0 ends it."""
        self._called(lambda: self._running.refuse(for_s))

    def maintain(self, for_s: float) -> None:
        """Is in maintenance for a while, as the venue says it; 0 ends it."""
        self._called(lambda: self._running.maintain(for_s))

    @property
    def _market(self) -> Market:
        market = self._running.venue.market
        if market is None:
            raise ConfigError(
                "Only a venue that trades by itself knows more than it sends: no replay, no CryptoCompare."
            )
        return market

    def _tape(self, subscription: str) -> Tape:
        tapes = self._market.tapes
        if subscription not in tapes:
            raise ConfigError(f"{subscription!r} is not traded here; give one of {', '.join(tapes)}.")
        return tapes[subscription]

    def _called(self, act: Callable[[], T]) -> T:
        """Does something in the simulator's thread, and waits for it."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(act())
            except Exception as error:  # noqa: BLE001 - handed to the thread that waits
                done.set_exception(error)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(run)
        return done.result(timeout=30)

    def send(self, subscription: str, frame: bytes) -> None:
        """Sends a frame of your own to the clients that have the subscription, beside what the feed sends."""
        self._called(lambda: self._running.send(subscription, frame))

    def drop_connections(self) -> None:
        """Drops all sockets without a close frame, as a network does; clients may connect again at once."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._running.drop_connections)

    def wait_until(self, predicate: Callable[[], bool], timeout_s: float) -> None:
        """Waits until `predicate` holds; it is asked whenever something was sent or the clients changed.

        Raises:
            TimeoutError: it does not hold within `timeout_s` seconds.
            CryptoflowError: the simulator has failed.
        """
        with self._change:
            met = self._change.wait_for(lambda: self._failure is not None or predicate(), timeout_s)
        if self._failure is not None:
            raise self._failure
        if not met:
            raise TimeoutError(f"The simulator was waited for, and nothing came of it within {timeout_s} s.")

    @property
    def _running(self) -> Server:
        if self._server is None:
            raise ConfigError("The simulator is not started; use it in a with block.")
        return self._server

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            with self._change:
                self._failure = error
                self._change.notify_all()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._server = Server(self.config, self._changed)
        await self._server.run(self._listening, self._stop.wait)

    def _listening(self, url: str, rest_url: str | None) -> None:
        with self._change:
            self._url, self._rest_url = url, rest_url
            self._change.notify_all()

    def _changed(self) -> None:
        with self._change:
            if self._running.finished:
                self.finished.set()
            self._change.notify_all()
