"""Requests to a venue's REST and its answers, without I/O."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from cryptoflow.errors import BadParameterError


class Request(NamedTuple):
    """A GET."""

    target: str
    """Path and query, as they were sent."""
    client: str
    """The client's address; limits are by it."""

    @property
    def path(self) -> str:
        """Without the query."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The parameters; of one that comes twice, the last."""
        return dict(parse_qsl(urlsplit(self.target).query))


class Answer(NamedTuple):
    """What a request gets."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


def answer(data: Any, status: int = 200, **headers: str) -> Answer:
    """`data` as JSON; a header's name has underscores in place of its dashes."""
    return Answer(status, msgspec.json.encode(data), {name.replace("_", "-"): text for name, text in headers.items()})


def whole_seconds(wait_s: float) -> str:
    """A wait as Retry-After has it."""
    return str(max(1, math.ceil(wait_s)))


def whole(query: Mapping[str, str], name: str) -> int | None:
    """The whole number that a parameter holds; None if it is not given.

    Raises:
        BadParameterError: it is none.
    """
    text = query.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise BadParameterError(name) from None
