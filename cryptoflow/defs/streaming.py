"""How an op streams: its lease, its timeout, its clean end, what it tells, and its errors as Dagster shows them."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psutil
from dagster import DagsterExecutionInterruptedError, DagsterRunStatus
from pydantic import Field

from cryptoflow import settings
from cryptoflow.defs.assets import events_of
from cryptoflow.defs.failures import as_failure
from cryptoflow.defs.runs import BY_SIGNAL, HOME_TAG, own_home
from cryptoflow.feeds.events import ClientEvent, Connected
from cryptoflow.feeds.gaps import Filled
from cryptoflow.feeds.pace import PairBack
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.lease import lease
from cryptoflow.runtime.metrics import AggregateMetrics, PartMetrics, ProcessMetrics
from cryptoflow.runtime.status import PartStatus, write_status
from cryptoflow.runtime.stop import Deadline, Stop, checked_timeout_s, ended_in_time, stop_on_signals, stop_with_parents
from cryptoflow.runtime.watchdog import watched
from cryptoflow.venues.events import Subscribed

MAX_RUNTIME_TAG = "dagster/max_runtime"
GRACE_S = 300
"""What a run may take beyond its timeout, for starting and draining, before Dagster's monitoring ends it."""

FIRST_OBSERVATION_S = 15.0
"""From the start to the first observation, which Dagster keeps, and between two of them at least."""

LAST_INTERVAL_S = 300.0
"""Between two observations of a run that is hours old: it may go on for weeks, and all are kept."""

PACE = 4
"""In between, the next observation comes after a fourth of the time that the run has lasted."""


class StreamingConfig(dg.Config):
    """Config of a streaming op."""

    timeout_s: float = Field(settings.DEFAULT_TIMEOUT_S, description="Seconds to stream; 0: until it is stopped.")


@dataclass
class Streaming:
    """A streaming op at work."""

    context: dg.OpExecutionContext
    home: Path
    beat: Callable[[], None] = lambda: None
    """To be called as long as it makes progress."""
    status: PartStatus = field(default_factory=PartStatus)
    _began_s: float = field(default_factory=time.monotonic)
    _next: Deadline = field(default_factory=lambda: Deadline(FIRST_OBSERVATION_S))
    _taken: int = 0
    _observed_at_s: float = field(default_factory=time.monotonic)
    _status_failed: bool = False

    def report(self, metrics: PartMetrics) -> None:
        """Tell the metrics: to the run's watcher each time, to Dagster now and then."""
        self.beat()
        self._leave_status(metrics)
        if self._next.passed:
            self._next = Deadline(interval_s(time.monotonic() - self._began_s))
            self._observe(metrics)

    def _observe(self, metrics: PartMetrics) -> None:
        """Tell Dagster the metrics, which it keeps and plots by asset."""
        figures, now_s = metrics.figures(), time.monotonic()
        self.context.log.info(sentence(figures))
        process = process_metrics(metrics, self._taken, now_s - self._observed_at_s, time.time())
        for event in events_of(self.context.op.name, figures | process.figures()):
            self.context.log_event(event)
        self._taken, self._observed_at_s = metrics.taken, now_s

    def _leave_status(self, metrics: PartMetrics) -> None:
        self.status.metrics = metrics
        try:
            write_status(self.home, self.context.run_id, self.context.op.name, self.status)
        except OSError as error:  # trades go on without a watcher, on a full disk for one
            if not self._status_failed:
                self.context.log.warning(f"The status of this run can't be written for `cryptoflow run`: {error}")
            self._status_failed = True

    def announce(self, notice: str) -> None:
        """Say where the trades come from."""
        self.status.notice = notice
        self.context.log.info(notice)

    def on_event(self, event: ClientEvent) -> None:
        """Log what happens to the feed's socket; what goes wrong there as a warning."""
        harmless = isinstance(event, Connected | Subscribed | Filled | PairBack)
        (self.context.log.info if harmless else self.context.log.warning)(str(event))

    def finish(self, metrics: PartMetrics) -> None:
        """Leave the last metrics in the run's metadata."""
        self.beat()
        self._leave_status(metrics)
        self._observe(metrics)
        self.context.add_output_metadata({name: round(value, 3) for name, value in metrics.figures().items()})


def sentence(figures: Mapping[str, float]) -> str:
    """The figures as one line."""
    return ", ".join(f"{name} {value:,.10g}" for name, value in figures.items())


def interval_s(age_s: float) -> float:
    """How long to the next observation of a run of that age."""
    return min(max(age_s / PACE, FIRST_OBSERVATION_S), LAST_INTERVAL_S)


def process_metrics(metrics: PartMetrics, taken_before: int, elapsed_s: float, now_s: float) -> ProcessMetrics:
    """What follows from the metrics of a part, and from how many trades it had taken `elapsed_s` ago."""
    watermark_s = metrics.watermark_s if isinstance(metrics, AggregateMetrics) else None
    process = psutil.Process()
    family = [process, *process.children(recursive=True)]
    return ProcessMetrics(
        trades_per_s=(metrics.taken - taken_before) / elapsed_s if elapsed_s > 0 else None,
        watermark_delay_s=now_s - watermark_s if watermark_s else None,
        memory_mb=sum(_memory_bytes(each) for each in family) / 1e6,
    )


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


@contextmanager
def streaming(context: dg.OpExecutionContext, config: StreamingConfig) -> Iterator[tuple[Streaming, RunContext]]:
    """An op's time of streaming.

    A signal (Ctrl-C, Dagster's termination, its max-runtime kill) sets the run's `stop`; when the block has ended
    cleanly after that, the op ends as interrupted, and the run as canceled. A block that does not end then, or that
    makes no progress, is ended by force, with its process.

    Raises:
        dg.Failure: for each CryptoflowError, with its sentence.
    """
    home = own_home()
    at_work = Streaming(context, home)
    with as_failure():
        timeout_s = checked_timeout_s(config.timeout_s)
        with (
            lease(home, context.run_id, context.op.name) as held,
            stop_on_signals() as stop,
            ended_in_time(stop),
            watched(held.promise) as at_work.beat,
        ):
            stop_with_parents(stop)
            _tag(context, home, timeout_s)
            yield at_work, _run_context(at_work, stop, timeout_s)
    if stop.is_set():
        context.log.info("Ended cleanly on request.")
        _confirm_canceled(context)
        raise DagsterExecutionInterruptedError


def _tag(context: dg.OpExecutionContext, home: Path, timeout_s: float) -> None:
    """Have Dagster know where the run's leases lie, and when it is overdue, however it was launched."""
    tags = {HOME_TAG: str(home)}
    if timeout_s:
        tags[MAX_RUNTIME_TAG] = str(int(timeout_s + GRACE_S))
    context.instance.add_run_tags(context.run_id, tags)


def _run_context(at_work: Streaming, stop: Stop, timeout_s: float) -> RunContext:
    context = at_work.context

    def is_ending(run_id: str) -> bool:
        run = context.instance.get_run_by_id(run_id)
        return run is not None and (run.is_finished or run.status == DagsterRunStatus.CANCELING)

    return RunContext(
        at_work.home,
        context.run_id,
        timeout_s,
        stop,
        peer_over=peer_over(context),
        is_ending=is_ending,
        report=at_work.report,
        on_event=at_work.on_event,
    )


def _confirm_canceled(context: dg.OpExecutionContext) -> None:
    """Have Dagster take the end as asked for: it calls one a failure that came as a mere signal, such as Ctrl-C.

    A step outlives the run's own process that was killed: that run has failed, and is launched again where it is to be.
    """
    if (parent := multiprocessing.parent_process()) and not parent.is_alive():
        return
    run = context.instance.get_run_by_id(context.run_id)
    if run and run.status == DagsterRunStatus.STARTED:
        context.instance.report_run_canceling(run, BY_SIGNAL)


def peer_over(context: dg.OpExecutionContext) -> Callable[[], bool] | None:
    """Tells whether the other op of the same run is over, asked of Dagster's own record; None: it has no other."""
    steps = {node.name for node in context.job_def.nodes} - {context.op.name}
    if not steps:
        return None

    def over() -> bool:
        found = context.instance.get_run_step_stats(context.run_id, step_keys=list(steps))
        return any(step.end_time for step in found)

    return over
