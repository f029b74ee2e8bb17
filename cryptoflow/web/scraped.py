"""`/metrics` of the page's server: what `cryptoflow metrics` serves, for who watches the page anyway."""

import threading
from contextlib import ExitStack
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from cryptoflow.settings import CassandraSettings, KafkaSettings


class Scraped:
    """Answers scrapes, from any thread; nobody looks at the stores for it before the first one."""

    def __init__(self, home: Path, kafka: KafkaSettings, cassandra: CassandraSettings, window_s: int) -> None:
        self._sources = home, kafka, cassandra, window_s
        self._stack, self._lock = ExitStack(), threading.Lock()
        self._registry: CollectorRegistry | None = None

    def answer(self, request: Request) -> Response:
        """All metrics, in the form that the scraper asks for."""
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._watched()), headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    def close(self) -> None:
        """Look no more."""
        self._stack.close()

    def _watched(self) -> CollectorRegistry:
        # Imported here: it takes a while that the page's start should not wait for.
        from cryptoflow.exporter.registry import Sources, registry

        with self._lock:
            if self._registry is None:
                self._registry = self._stack.enter_context(registry(Sources(*self._sources)))
            return self._registry
