"""`cryptoflow metrics`: all metrics, for Prometheus."""

import signal
from typing import Annotated

import typer

from cryptoflow.errors import ServiceError
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, home, load

DEFAULT_PORT = 9464
"""The one that OpenTelemetry gives to Prometheus' exporters."""

Port = Annotated[int, typer.Option(min=1, max=65535, help="Serve http://HOST:PORT/metrics.")]
Host = Annotated[str, typer.Option(help="Listen here; other machines can look at 0.0.0.0. It has no login.")]
Once = Annotated[bool, typer.Option("--once", help="Print them once, instead of serving them.")]


def metrics(port: Port = DEFAULT_PORT, host: Host = "127.0.0.1", once: Once = False) -> None:
    """Serve the metrics of all runs of this home, of Kafka and of the tables, for Prometheus, until Ctrl-C."""
    from prometheus_client import generate_latest, start_http_server  # here, as they and the driver take a while

    from cryptoflow.exporter.registry import Sources, registry

    sources = Sources(home(), load(KafkaSettings), load(CassandraSettings), load(SparkSettings).window_s)
    with registry(sources) as made:
        if once:
            typer.echo(generate_latest(made).decode(), nl=False)
            return
        try:
            server, thread = start_http_server(port, host, made)
        except OSError as error:
            raise ServiceError(
                f"Port {port}, for the metrics, can't be had ({error.strerror}): choose another with --port."
            ) from None
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container is stopped by it
        typer.echo(f"Metrics are at http://{host}:{port}/metrics, until Ctrl-C.")
        try:
            thread.join()
        except KeyboardInterrupt:
            server.shutdown()
