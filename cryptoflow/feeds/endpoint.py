"""Where a venue is, and what is wanted of it."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cryptoflow.errors import ConfigError
from cryptoflow.venues.base import Venue

DEFAULT_PORTS = {"ws": 80, "wss": 443}


@dataclass(frozen=True)
class Endpoint:
    """A venue, where it is, and what is wanted of it.

    Raises:
        ConfigError: the URL is no websocket's.
    """

    venue: Venue
    url: str = field(repr=False)
    subscriptions: tuple[str, ...]
    api_key: str | None = field(default=None, repr=False)
    """Sent to the venue; shown nowhere."""
    rest_url: str | None = None

    def __post_init__(self) -> None:
        self._parts()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return self._parts()[0]

    @property
    def secret(self) -> str | None:
        """The key; one in the URL itself counts."""
        return self._parts()[2]

    @property
    def socket_url(self) -> str:
        """The address to connect to, with the key."""
        return self.venue.socket_url(self._parts()[1])

    @property
    def variable(self) -> str:
        """The environment variable of the URL."""
        return f"{self.venue.name.upper()}_URL"

    def _parts(self) -> tuple[str, str, str | None]:
        try:
            parts = urlsplit(self.url)
            address = f"{parts.hostname}:{parts.port or DEFAULT_PORTS[parts.scheme]}"
        except (ValueError, KeyError):
            address = ""
        if not address or not parts.hostname:
            raise ConfigError(f"The feed's URL ({self.variable}) must be ws:// or wss://HOST[:PORT]/PATH.")
        query = dict(parse_qsl(parts.query))
        if self.api_key:
            query["api_key"] = self.api_key
        return address, urlunsplit(parts._replace(query=urlencode(query))), query.get("api_key")
