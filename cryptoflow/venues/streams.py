"""Sessions of venues whose streams have names, `btcusdt@trade`, and that answer requests by their number."""

from collections.abc import Callable, Sequence

import msgspec

from cryptoflow.model.trade import Pair
from cryptoflow.venues.events import Event, Left, Other
from cryptoflow.venues.session import SUBSCRIBE, UNSUBSCRIBE, Method, VenueSession

SUFFIX = "@trade"

STREAMS_AT_ONCE = 150
"""In one request, so that it stays below 4 kB: Binance refused longer ones, or did not answer them at all
(https://github.com/thrasher-corp/gocryptotrader/pull/670, https://github.com/altangent/ccxws/issues/161)."""

ANSWER = Other("answer")
"""An answer that tells nothing new."""


class Fault(msgspec.Struct, frozen=True):
    """Why a request is refused."""

    code: int = 0
    msg: str = ""


class StreamSession(VenueSession):
    """A session that asks for many streams in one request; one that is refused is asked for again by halves."""

    def __init__(self, subscriptions: Sequence[str], symbol: Callable[[Pair], str]) -> None:
        self._asked: list[tuple[Method, list[str]]] = []
        super().__init__(subscriptions, symbol)

    def _requests(self, method: Method, symbols: Sequence[str]) -> list[str]:
        begins = range(0, len(symbols), STREAMS_AT_ONCE)
        return [self._asking(method, symbols[begin : begin + STREAMS_AT_ONCE]) for begin in begins]

    def _asking(self, method: Method, symbols: Sequence[str]) -> str:
        self._asked.append((method, list(symbols)))
        streams = [f"{symbol.lower()}{SUFFIX}" for symbol in symbols]
        request = {"method": method.upper(), "params": streams, "id": len(self._asked)}
        return msgspec.json.encode(request).decode()

    def _done(self, number: int | None) -> Sequence[Event]:
        """What it means that a request was granted."""
        method, symbols = self._request(number)
        if method == SUBSCRIBE:
            return [event for symbol in symbols if (event := self._accept(symbol))] or (ANSWER,)
        self._accepted = [symbol for symbol in self._accepted if symbol not in symbols]
        return (Left(),) if method == UNSUBSCRIBE and not self._accepted else (ANSWER,)

    def _refused(self, number: int | None, fault: Fault) -> Sequence[Event]:
        """What it means that a request was refused: of several streams any may be the fault."""
        method, symbols = self._request(number)
        said = f"{fault.msg or 'no reason is given'} (code {fault.code})"
        if method != SUBSCRIBE or len(symbols) < 2:
            return (self._refuse(symbols[0] if symbols else None, said),)
        half = len(symbols) // 2
        self._outgoing += self._requests(SUBSCRIBE, symbols[:half]) + self._requests(SUBSCRIBE, symbols[half:])
        return (Other("refused together"),)

    def _request(self, number: int | None) -> tuple[Method | None, list[str]]:
        """What was asked for under a number."""
        return self._asked[number - 1] if number and 0 < number <= len(self._asked) else (None, [])
