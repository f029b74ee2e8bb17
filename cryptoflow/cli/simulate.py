"""`cryptoflow simulate`: a feed's server as a process."""

import asyncio
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from cryptoflow.errors import ServiceError
from cryptoflow.simulator.config import SimulatorConfig, VenueName
from cryptoflow.simulator.faults import Faults

DEFAULT_PORT = 8765

PARENT_POLL_S = 0.5
"""How often the parent process is looked for; no system tells it of another's process portably."""

FAULTS = "Faults"
"""The help's heading of the fault switches."""


def _fault(help_: str, least: float | None = None, most: float | None = None) -> Any:
    return typer.Option(help=help_, min=least, max=most, rich_help_panel=FAULTS)


def simulate(
    venue: Annotated[VenueName, typer.Option(help="Whose feed to be.")] = "cryptocompare",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = DEFAULT_PORT,
    rest_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the venue's REST; the same if not given."),
    ] = None,
    pair: Annotated[list[str] | None, typer.Option(help="What the venue trades, as BTC-USD; may be repeated.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Trades/s to generate; 0: unlimited.")] = 100.0,
    seed: Annotated[int, typer.Option(help="Seed of prices, quantities and faults.")] = 0,
    replay: Annotated[
        Path | None, typer.Option(help="Send a recording's frames, as `cryptoflow record` writes them.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0, help="Of the replay: 1 as recorded, 0 unlimited.")] = 1.0,
    max_trades: Annotated[
        int | None, typer.Option(min=0, help="Generate so many trades, then only heartbeats.")
    ] = None,
    start_time: Annotated[float | None, typer.Option(help="Exchange time of the first trade, s since 1970.")] = None,
    time_step: Annotated[float | None, typer.Option(min=0, help="With --start-time: s from trade to trade.")] = None,
    history: Annotated[float, typer.Option(help="How far the venue's past reaches back, in s.")] = 31 * 86_400.0,
    history_rate: Annotated[float | None, typer.Option(help="Trades/s of its past; as --rate if not given.")] = None,
    limit_factor: Annotated[float, typer.Option(help="The venue's limits are so many times as generous.")] = 1.0,
    other_flags: Annotated[float, typer.Option(min=0, max=1, help="Share of flags 4, 9 and 10.")] = 0.02,
    parent_pid: Annotated[int | None, typer.Option(help="End when this process has ended.")] = None,
    duplicates: Annotated[float, _fault("Share of trades sent twice.", 0, 1)] = 0.0,
    disorder: Annotated[float, _fault("Trades up to so many s out of order.", 0)] = 0.0,
    disordered_ids: Annotated[float, _fault("Share of frames that later ones overtake.", 0, 1)] = 0.0,
    late: Annotated[float, _fault("Share of trades sent late.", 0, 1)] = 0.0,
    late_by: Annotated[float, _fault("How late these are, in s.", 0)] = 600.0,
    malformed: Annotated[float, _fault("Share of trades followed by a broken frame.", 0, 1)] = 0.0,
    lost: Annotated[float, _fault("Share of frames of trades that are never sent.", 0, 1)] = 0.0,
    lost_ids: Annotated[float, _fault("Share of a venue's ids that no trade has.", 0, 0.9)] = 0.0,
    quiet: Annotated[list[str] | None, _fault("A pair that trades seldom, as BTC-USD; may be repeated.")] = None,
    quiet_every: Annotated[float, _fault("How seldom: s between two trades, on average.", 0.001)] = 150.0,
    refuse: Annotated[list[str] | None, _fault("A subscription to refuse; may be repeated.")] = None,
    accept_key: Annotated[list[str] | None, _fault("The API key to ask for; may be repeated.")] = None,
    max_connects_per_minute: Annotated[int | None, _fault("Refuse (429) more connects a minute.", 0)] = None,
    max_sockets: Annotated[int | None, _fault("Refuse (429) more sockets at once.", 0)] = None,
    max_subscriptions: Annotated[int | None, _fault("Refuse more subscriptions a socket.", 0)] = None,
    force_disconnect_every: Annotated[float | None, _fault("Give each socket notice and close it after s.", 0)] = None,
    notice: Annotated[float, _fault("How long before the close the notice comes, in s.", 0)] = 0.0,
    lifetime: Annotated[float | None, _fault("Close each socket after s (Binance: 86400).", 0)] = None,
    cut_every: Annotated[float | None, _fault("Drop each socket without a close after s.", 0)] = None,
    silent_after: Annotated[float | None, _fault("Send each socket nothing more after s.", 0)] = None,
    heartbeat: Annotated[float | None, _fault("Seconds between heartbeats, if not the venue's.", 0.001)] = None,
    duplicate_last_match: Annotated[bool, _fault("Coinbase's last_match comes twice.")] = False,
    zero_last_trade_id: Annotated[bool, _fault("Coinbase's heartbeats hide the last trade's id.")] = False,
    rest_delay: Annotated[float, _fault("How long each answer of the REST takes, in s.", 0)] = 0.0,
    rest_lag: Annotated[float, _fault("How long the REST does not know a trade yet, in s.", 0)] = 0.0,
    rest_too_many: Annotated[float, _fault("Share of requests refused as too many.", 0, 1)] = 0.0,
    rest_errors: Annotated[float, _fault("Share of requests answered by a 500.", 0, 1)] = 0.0,
    retry_after: Annotated[float, _fault("What --rest-too-many asks to wait, in s.", 0)] = 2.0,
    rest_lacks: Annotated[list[str] | None, _fault("End of a path that there is not; may be repeated.")] = None,
    klines_off: Annotated[float, _fault("Share of the venue's own candles that are wrong.", 0, 1)] = 0.0,
    exclusive_since: Annotated[bool, _fault("Kraken's since leaves out the trades of that time.")] = False,
    refuse_after: Annotated[float | None, _fault("Drop all, and refuse everything, after s.", 0)] = None,
    refuse_for: Annotated[float, _fault("How long that lasts, in s.", 0)] = 60.0,
    refuse_status: Annotated[int, _fault("By which HTTP status.", 400, 599)] = 503,
    maintenance_after: Annotated[float | None, _fault("Be in maintenance after s.", 0)] = None,
    maintenance_for: Annotated[float, _fault("How long that lasts, in s.", 0)] = 60.0,
) -> None:
    """Run a feed's simulator with made-up or recorded trades: CryptoCompare's streamer v2, or a venue's websocket and
    REST, until Ctrl-C."""
    faults = Faults(
        duplicates=duplicates,
        disorder_s=disorder,
        disordered_ids=disordered_ids,
        late=late,
        late_by_s=late_by,
        malformed=malformed,
        lost=lost,
        lost_ids=lost_ids,
        quiet_pairs=tuple(quiet or ()),
        quiet_every_s=quiet_every,
        refused_subscriptions=tuple(refuse or ()),
        api_keys=tuple(accept_key) if accept_key else None,
        max_connects_per_minute=max_connects_per_minute,
        max_sockets=max_sockets,
        max_subscriptions=max_subscriptions,
        force_disconnect_every_s=force_disconnect_every,
        notice_s=notice,
        lifetime_s=lifetime,
        cut_every_s=cut_every,
        silent_after_s=silent_after,
        heartbeat_s=heartbeat,
        duplicate_last_match=duplicate_last_match,
        zero_last_trade_id=zero_last_trade_id,
        rest_delay_s=rest_delay,
        rest_lag_s=rest_lag,
        rest_too_many=rest_too_many,
        rest_errors=rest_errors,
        retry_after_s=retry_after,
        rest_lacks=tuple(rest_lacks or ()),
        klines_off=klines_off,
        exclusive_since=exclusive_since,
        refuse_after_s=refuse_after,
        refuse_for_s=refuse_for,
        refuse_status=refuse_status,
        maintenance_after_s=maintenance_after,
        maintenance_for_s=maintenance_for,
    )
    config = SimulatorConfig(
        venue=venue,
        host=host,
        port=port,
        rest_port=rest_port,
        pairs=tuple(pair or ()),
        rate=rate,
        seed=seed,
        replay=replay,
        speed=speed,
        max_trades=max_trades,
        start_time_s=start_time,
        time_step_s=time_step,
        history_s=history,
        history_rate=history_rate,
        limit_factor=limit_factor,
        other_flags_share=other_flags,
        faults=faults,
    )
    asyncio.run(_serve(config, None if parent_pid is None else _process(parent_pid)))


async def _serve(config: SimulatorConfig, parent: psutil.Process | None) -> None:
    from cryptoflow.simulator.server import Server  # it takes a while that no other command should wait for

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server(config)
    await server.run(partial(_listening, config.venue), lambda: _told(stop, parent))
    sent, tally = server.sent, server.venue.tally
    with suppress(BrokenPipeError):  # the parent that read it may be gone: that is a reason to end
        typer.echo(f"sent {sent.frames} frames, {sent.distinct} distinct trades, to {server.connects} connections")
        if server.venue.rest_path:
            refused = ", ".join(f"{name} {count}" for name, count in tally.refused.items()) or "none"
            broken = ", ".join(f"{name} {count}" for name, count in tally.broken.items()) or "none"
            typer.echo(f"asked {tally.requests.total()} times by HTTP; refused: {refused}; limits broken: {broken}")


def _listening(venue: VenueName, url: str, rest_url: str | None) -> None:
    typer.echo(f"listening on {url}")
    if rest_url is None:
        typer.echo(f"point cryptoflow at it: CRYPTOCOMPARE_URL={url} CRYPTOCOMPARE_API_KEY=any cryptoflow run")
    else:
        variables = f"{venue.upper()}_URL={url} {venue.upper()}_REST_URL={rest_url}"
        typer.echo(f"point cryptoflow at it: {variables} cryptoflow run --source {venue}")


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
