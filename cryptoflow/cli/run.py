"""`cryptoflow run`: the main job with all that it needs, and a screen that shows it."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cryptoflow import settings
from cryptoflow.cli.options import environment, with_settings
from cryptoflow.cli.screen import Candles, Rate, Screen, figures_line, remarks, screen, totals
from cryptoflow.cli.services import fetching
from cryptoflow.errors import CryptoflowError
from cryptoflow.feeds.source import SIMULATED, destination
from cryptoflow.local import doctor, lifecycle
from cryptoflow.local.machine import full_disk_told
from cryptoflow.local.processes import Process
from cryptoflow.local.service import LOOPBACK
from cryptoflow.render import candle_table, new_console
from cryptoflow.runtime.status import forget_status, read_statuses
from cryptoflow.runtime.stop import TIED_TO, Deadline, checked_timeout_s, stop_on_signals
from cryptoflow.settings import (
    CassandraSettings,
    FeedSettings,
    KafkaSettings,
    SparkSettings,
    WebSettings,
    is_simulated,
    load,
)
from cryptoflow.web.listen import address, listening_socket, serving

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from cryptoflow.launch import Launcher

REFRESH_S = 1.0
END_TIMEOUT_S = 120.0
"""How long a run that was told to end may take, in s."""

SHOWN_EACH = 3
"""Candles of each pair on the screen."""


class Mode(StrEnum):
    """Where trades go."""

    KAFKA = "kafka"
    MEMORY = "memory"


PARTS = {Mode.KAFKA: ("ingest_trades", "aggregate_trades"), Mode.MEMORY: ("aggregate_in_memory",)}


@with_settings
def run(
    mode: Annotated[Mode, typer.Option(help="kafka: with Kafka and Cassandra; memory: with neither.")] = Mode.KAFKA,
    timeout: Annotated[float, typer.Option(help="Seconds to stream; 0: until Ctrl-C.")] = settings.DEFAULT_TIMEOUT_S,
    ui: Annotated[
        bool, typer.Option("--ui/--no-ui", help="With the page, Dagster's UI and daemon, or without.")
    ] = True,
    ui_port: Annotated[
        int, typer.Option(help="Port of the Dagster UI.", envvar="CRYPTOFLOW_UI_PORT", min=1, max=65535)
    ] = doctor.UI_PORT,
    **given: str | None,
) -> None:
    """Run the main job: start what it needs, show the candles as they form, end cleanly after the timeout or Ctrl-C."""
    checked_timeout_s(timeout)
    env = environment(given)
    with stop_on_signals() as stop:
        ended_well = RunCommand(mode, timeout, ui_port if ui else None, env, stop).run()
    if not ended_well:
        raise typer.Exit(1)


class RunCommand:
    """One `cryptoflow run`."""

    def __init__(
        self, mode: Mode, timeout_s: float, ui_port: int | None, env: Mapping[str, str], stop: threading.Event
    ) -> None:
        self._mode, self._timeout_s, self._ui_port, self._stop = mode, timeout_s, ui_port, stop
        self._home, self._env = settings.home(env), env
        self._kafka, self._cassandra = load(KafkaSettings, env=env), load(CassandraSettings, env=env)
        self._spark = load(SparkSettings, env=env)
        self._console = new_console()

    def run(self) -> bool:
        """From the first check to the summary; False if the run failed.

        Raises:
            CryptoflowError: what it needs could not be started, or the disk is full.
        """
        doctor.require([doctor.checked("Java", doctor.java)])
        with ExitStack() as stack:
            page = stack.enter_context(self._page())
            if is_simulated(load(FeedSettings, env=self._env), settings.api_key(self._env)):
                self._say(" ".join((SIMULATED, *self._destination())))
            instance, launcher = stack.enter_context(self._started(page))
            look_at_disk = stack.enter_context(full_disk_told(self._home))
            candles = stack.enter_context(self._candles())
            if self._stop.is_set():
                return True
            job = f"{self._mode}_mode"
            config = {"ops": {part: {"config": {"timeout_s": self._timeout_s}} for part in PARTS[self._mode]}}
            run_id = launcher.launch(job, config)
            stack.callback(forget_status, self._home, run_id)
            self._say(f"Run {run_id} of {job} is launched.")
            with screen(self._console) as display:
                self._watch(run_id, instance, launcher, display, candles, look_at_disk)
            return self._summary(run_id, instance, candles)

    def _destination(self) -> Iterator[str]:
        if self._mode is Mode.KAFKA:
            yield destination(self._kafka.topic, self._cassandra.keyspace)

    @contextmanager
    def _started(self, page: ExitStack) -> Iterator[tuple["DagsterInstance", "Launcher"]]:
        """Dagster and, in kafka mode, Kafka and Cassandra; ended again, what was up before left alone.

        Args:
            page: closed before what it reads is.
        """
        # Imported here and below, as these take a while that no other command should wait for; Dagster and the
        # services start meanwhile.
        from cryptoflow.launch import UiLauncher, prepare_home

        dagster_home = prepare_home(self._home, self._env)
        # For processes that work in other folders, and end with this one.
        own = {TIED_TO: str(os.getpid()), "CRYPTOFLOW_HOME": str(self._home), "DAGSTER_HOME": str(dagster_home)}
        env = {**self._env, **own}
        with ExitStack() as stack:
            serving = None
            if self._ui_port is not None:
                self._say("Dagster starts.")
                serving = stack.enter_context(closing(UiLauncher(self._home, self._ui_port, env)))
            if self._mode is Mode.KAFKA:
                stack.callback(lifecycle.end, self._services_up())
                stack.callback(page.close)
            from dagster import DagsterInstance

            from cryptoflow.launch import ExecuteLauncher

            if serving:
                serving.await_ready()  # it makes a new home's storage, and whoever does so at the same time spoils it
                self._say(f"Dagster UI: {serving.url}   Spark UI: http://127.0.0.1:{self._spark.ui_port}")
            instance = stack.enter_context(DagsterInstance.from_config(str(dagster_home)))
            yield instance, serving or stack.enter_context(closing(ExecuteLauncher(self._home, instance, env)))

    def _page(self) -> ExitStack:
        """The page of live candles, which is there before all that it shows; of what is in memory there is none."""
        page = ExitStack()
        if self._mode is Mode.KAFKA and self._ui_port is not None:
            web = load(WebSettings, {"dagster_url": f"http://{LOOPBACK}:{self._ui_port}"}, self._env)
            listener, web = listening_socket(web, or_another=True)
            self._say(f"Live candles: {address(web)}")
            page.enter_context(serving(listener, web, self._kafka, self._cassandra, self._spark))
        return page

    def _services_up(self) -> dict[str, Process]:
        wanted = lifecycle.services(self._kafka, self._cassandra)
        with fetching(self._console) as progress:
            return lifecycle.up(self._home, wanted, tied=True, tell=self._say, progress=progress)

    @contextmanager
    def _candles(self) -> Iterator[Callable[[str], Candles]]:
        """Gives a run's newest candles: out of Cassandra, or in memory mode what the run left."""
        if self._mode is Mode.MEMORY:
            home = self._home
            yield lambda run_id: [candle for part in read_statuses(home, run_id).values() for candle in part.candles]
            return
        from cryptoflow.tables.connection import TRANSIENT_ERRORS, connect, ensure_schema
        from cryptoflow.tables.reader import LatestCandles

        with connect(self._cassandra) as session:
            ensure_schema(session, self._cassandra)
            latest = LatestCandles(session, self._spark.window_s, SHOWN_EACH)

            def newest(_run_id: str) -> Candles:
                try:
                    return latest.newest(datetime.now(UTC))
                except (CryptoflowError, *TRANSIENT_ERRORS):
                    return []  # Cassandra is busy: the run itself says if it is gone

            yield newest

    def _watch(
        self,
        run_id: str,
        instance: "DagsterInstance",
        launcher: "Launcher",
        display: Screen,
        candles: Callable[[str], Candles],
        look_at_disk: Callable[[], None],
    ) -> None:
        from cryptoflow.launch import run_of

        rate, ending = Rate(), None
        begun_s = time.monotonic()
        while not (dagster_run := run_of(instance, run_id)).is_finished:
            if self._stop.is_set() and ending is None:
                launcher.terminate(run_id)
                ending = Deadline(END_TIMEOUT_S)
            look_at_disk()
            self._check(launcher, instance, run_id)
            if ending and ending.passed:
                raise CryptoflowError(f"The run did not end in {END_TIMEOUT_S:g} s; it is ended by force.")
            parts = read_statuses(self._home, run_id)
            now_s = time.monotonic()
            line = figures_line(parts, rate.of(totals(parts)["trades"], now_s))
            headline = self._headline(dagster_run.status.value, now_s - begun_s, ending is not None)
            display.show(headline, line, candles(run_id))
            # Once it is ending, the event would wake this up for ever.
            (threading.Event() if ending else self._stop).wait(REFRESH_S)

    def _check(self, launcher: "Launcher", instance: "DagsterInstance", run_id: str) -> None:
        """See that the run's processes live; one that ended has said so in the meantime."""
        from cryptoflow.launch import run_of

        try:
            launcher.check()
        except CryptoflowError:
            if not run_of(instance, run_id).is_finished:
                raise

    def _headline(self, status: str, elapsed_s: float, ending: bool) -> str:
        of = f" of {self._timeout_s:g}" if self._timeout_s else ""
        doing = "ending cleanly" if ending else status.lower()
        return f"{self._mode} mode, {doing}, {elapsed_s:.0f}{of} s (Ctrl-C ends it)"

    def _summary(self, run_id: str, instance: "DagsterInstance", candles: Callable[[str], Candles]) -> bool:
        from dagster import DagsterRunStatus

        from cryptoflow.launch import failure, run_of

        status = run_of(instance, run_id).status
        newest = candles(run_id)
        if newest:
            self._console.print(candle_table(newest, width=self._console.width))
        shown = totals(read_statuses(self._home, run_id))
        self._say("   ".join(f"{name} {value:,.0f}" for name, value in shown.items()))
        for sentence in remarks(shown):
            self._say(sentence)
        self._say(f"Run {run_id}: {status.value}.")
        if status == DagsterRunStatus.FAILURE:
            raise CryptoflowError(failure(instance, run_id) or "The run failed; its log in Dagster says why.")
        return status == DagsterRunStatus.SUCCESS or self._stop.is_set()

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, highlight=False, soft_wrap=True)
