"""`cryptoflow chart`: the page of live candles, over a topic and tables that others fill."""

from typing import Annotated

import typer

from cryptoflow.render import new_console
from cryptoflow.runtime.stop import stop_on_signals
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, WebSettings, load
from cryptoflow.web.listen import address, listening_socket, serving

Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port of the page; CRYPTOFLOW_WEB_PORT or 8050 if left out.")
]
Host = Annotated[
    str | None,
    typer.Option(help="Address to listen at; any but this machine's own asks for CRYPTOFLOW_WEB_TOKEN."),
]


def chart(port: Port = None, host: Host = None) -> None:
    """Serve the page of live candles, and its API, until Ctrl-C."""
    web = load(WebSettings, {"port": port, "host": host})
    console = new_console()
    listener, web = listening_socket(web)
    stores = load(KafkaSettings), load(CassandraSettings), load(SparkSettings)
    with stop_on_signals() as stop, serving(listener, web, *stores):
        console.print(f"Live candles: {address(web)}   (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        stop.wait()
