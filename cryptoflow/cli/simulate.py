"""`cryptoflow simulate`: the feed server as a process."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from cryptoflow.errors import ServiceError
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.server import Server

DEFAULT_PORT = 8765

PARENT_POLL_S = 0.5
"""How often the parent process is looked for; no system tells it of another's process portably."""

FAULTS = "Faults"
"""The help's heading of the fault switches."""


def _fault(help_: str, least: float | None = None, most: float | None = None) -> Any:
    return typer.Option(help=help_, min=least, max=most, rich_help_panel=FAULTS)


def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = DEFAULT_PORT,
    rate: Annotated[float, typer.Option(min=0, help="Trades/s to generate; 0: unlimited.")] = 100.0,
    seed: Annotated[int, typer.Option(help="Seed of prices, quantities and faults.")] = 0,
    replay: Annotated[Path | None, typer.Option(help="Send this file's frames (JSON lines, .gz or plain).")] = None,
    speed: Annotated[float, typer.Option(min=0, help="Of the replay: 1 as recorded, 0 unlimited.")] = 1.0,
    max_trades: Annotated[
        int | None, typer.Option(min=0, help="Generate so many trades, then only heartbeats.")
    ] = None,
    start_time: Annotated[float | None, typer.Option(help="Exchange time of the first trade, s since 1970.")] = None,
    time_step: Annotated[float | None, typer.Option(min=0, help="With --start-time: s from trade to trade.")] = None,
    other_flags: Annotated[float, typer.Option(min=0, max=1, help="Share of flags 4, 9 and 10.")] = 0.02,
    parent_pid: Annotated[int | None, typer.Option(help="End when this process has ended.")] = None,
    duplicates: Annotated[float, _fault("Share of trades sent twice.", 0, 1)] = 0.0,
    disorder: Annotated[float, _fault("Trades up to so many s out of order.", 0)] = 0.0,
    late: Annotated[float, _fault("Share of trades sent late.", 0, 1)] = 0.0,
    late_by: Annotated[float, _fault("How late these are, in s.", 0)] = 600.0,
    malformed: Annotated[float, _fault("Share of trades followed by a broken frame.", 0, 1)] = 0.0,
    refuse: Annotated[list[str] | None, _fault("A subscription to refuse; may be repeated.")] = None,
    accept_key: Annotated[list[str] | None, _fault("The API key to ask for; may be repeated.")] = None,
    max_connects_per_minute: Annotated[int | None, _fault("Refuse (429) more connects a minute.", 0)] = None,
    max_sockets: Annotated[int | None, _fault("Refuse (429) more sockets at once.", 0)] = None,
    max_subscriptions: Annotated[int | None, _fault("Refuse (429) more subscriptions a socket.", 0)] = None,
    force_disconnect_every: Annotated[float | None, _fault("FORCE_DISCONNECT each socket after s.", 0)] = None,
    cut_every: Annotated[float | None, _fault("Drop each socket without a close after s.", 0)] = None,
    silent_after: Annotated[float | None, _fault("Send each socket nothing more after s.", 0)] = None,
    heartbeat: Annotated[float, _fault("Seconds between heartbeats.", 0.001)] = 30.0,
) -> None:
    """Run the feed simulator: CryptoCompare's streamer v2, with made-up or recorded trades, until Ctrl-C."""
    faults = Faults(
        duplicates=duplicates,
        disorder_s=disorder,
        late=late,
        late_by_s=late_by,
        malformed=malformed,
        refused_subscriptions=tuple(refuse or ()),
        api_keys=tuple(accept_key) if accept_key else None,
        max_connects_per_minute=max_connects_per_minute,
        max_sockets=max_sockets,
        max_subscriptions=max_subscriptions,
        force_disconnect_every_s=force_disconnect_every,
        cut_every_s=cut_every,
        silent_after_s=silent_after,
        heartbeat_s=heartbeat,
    )
    config = SimulatorConfig(
        host=host,
        port=port,
        rate=rate,
        seed=seed,
        replay=replay,
        speed=speed,
        max_trades=max_trades,
        start_time_s=start_time,
        time_step_s=time_step,
        other_flags_share=other_flags,
        faults=faults,
    )
    asyncio.run(_serve(config, None if parent_pid is None else _process(parent_pid)))


async def _serve(config: SimulatorConfig, parent: psutil.Process | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server(config)
    await server.run(_listening, lambda: _told(stop, parent))
    sent = server.sent
    with suppress(BrokenPipeError):  # the parent that read it may be gone: that is a reason to end
        typer.echo(f"sent {sent.frames} frames, {sent.distinct} distinct trades, to {server.connects} connections")


def _listening(url: str) -> None:
    typer.echo(f"listening on {url}")
    typer.echo(f"point cryptoflow at it: CRYPTOCOMPARE_URL={url} CRYPTOCOMPARE_API_KEY=any cryptoflow run")


async def _told(stop: asyncio.Event, parent: psutil.Process | None) -> None:
    """Waits for a signal or the end of the parent."""
    while not stop.is_set() and (parent is None or alive(parent)):
        with suppress(TimeoutError):
            async with asyncio.timeout(None if parent is None else PARENT_POLL_S):
                await stop.wait()


def _process(pid: int) -> psutil.Process:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        raise ServiceError(f"There is no process {pid}; give a running one as --parent-pid.") from None


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
