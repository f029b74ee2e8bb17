"""The page of live candles, and its API."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from cryptoflow.settings.setting import Port, Settings, secret, setting

LOOPBACKS = ("127.0.0.1", "::1", "localhost")
"""Hosts that only programs of this machine can reach."""

SHORTEST_TOKEN = 16


class WebSettings(Settings):
    """The page of live candles, and its API."""

    token: str | None = secret("CRYPTOFLOW_WEB_TOKEN", "what whoever looks has to know; needed beyond this machine")
    host: Annotated[str, Field(min_length=1)] = setting(
        "CRYPTOFLOW_WEB_HOST", LOOPBACKS[0], "the address to listen at; any but this machine's own asks for a token"
    )
    port: Port = setting("CRYPTOFLOW_WEB_PORT", 8050, "port of the page and its API")
    dagster_url: str = setting(
        "CRYPTOFLOW_WEB_DAGSTER_URL",
        "http://127.0.0.1:3000",
        "where the page's links to Dagster lead",
        pattern=r"^https?://",
    )

    @field_validator("token")
    @classmethod
    def _usable(cls, token: str | None) -> str | None:
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise ValueError(f"it must have {SHORTEST_TOKEN} characters at least")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError("it must be of printable ASCII, as headers carry nothing else")
        return token

    @field_validator("host")
    @classmethod
    def _guarded(cls, host: str, info: ValidationInfo) -> str:
        if host not in LOOPBACKS and not info.data.get("token"):
            raise ValueError("other machines may look there, so CRYPTOFLOW_WEB_TOKEN must be set")
        return host
