"""How an op streams: its timeout, its clean end, what it logs, and its errors as Dagster shows them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
from dagster import DagsterExecutionInterruptedError
from pydantic import Field

from cryptoflow import settings
from cryptoflow.errors import CryptoflowError
from cryptoflow.feeds.client import ClientEvent, Connected
from cryptoflow.feeds.protocol import Subscribed
from cryptoflow.pipeline.status import PartStatus, write_status
from cryptoflow.pipeline.supervision import Control, Figures
from cryptoflow.shutdown import checked_timeout_s, stop_on_signals, stop_with_parents

MAX_RUNTIME_TAG = "dagster/max_runtime"
GRACE_S = 300
"""What a run may take beyond its timeout, for starting and draining, before Dagster's monitoring ends it."""

LOG_EVERY_S = 15.0
"""Between two lines of figures in the Dagster log, which is kept."""


class StreamingConfig(dg.Config):
    """Config of a streaming op."""

    timeout_s: float = Field(settings.DEFAULT_TIMEOUT_S, description="Seconds to stream; 0: until it is stopped.")


@dataclass
class Streaming:
    """A streaming op at work."""

    context: dg.OpExecutionContext
    status: PartStatus = field(default_factory=PartStatus)
    _logged_at_s: float = field(default_factory=time.monotonic)
    _status_failed: bool = False

    def report(self, figures: Figures) -> None:
        """Tell the figures: to the run's watcher each time, to the Dagster log now and then."""
        self._leave_status(figures)
        if time.monotonic() - self._logged_at_s >= LOG_EVERY_S:
            self._logged_at_s = time.monotonic()
            self.context.log.info(sentence(figures))

    def _leave_status(self, figures: Figures) -> None:
        self.status.figures = dict(figures)
        try:
            write_status(settings.home(), self.context.run_id, self.context.op.name, self.status)
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
        harmless = isinstance(event, Connected | Subscribed)
        (self.context.log.info if harmless else self.context.log.warning)(str(event))

    def finish(self, figures: Figures) -> None:
        """Leave the last figures in the run's metadata."""
        self._leave_status(figures)
        self.context.log.info(sentence(figures))
        self.context.add_output_metadata({name: round(value, 3) for name, value in figures.items()})


def sentence(figures: Figures) -> str:
    """The figures as one line."""
    return ", ".join(f"{name} {value:,.10g}" for name, value in figures.items())


@contextmanager
def streaming(context: dg.OpExecutionContext, config: StreamingConfig) -> Iterator[tuple[Streaming, Control]]:
    """An op's time of streaming.

    A signal (Ctrl-C, Dagster's termination, its max-runtime kill) sets `control.stop`; when the block has ended
    cleanly after that, the op ends as interrupted, and the run as canceled.

    Raises:
        dg.Failure: for each CryptoflowError, with its sentence.
    """
    at_work = Streaming(context)
    try:
        timeout_s = checked_timeout_s(config.timeout_s)
        if timeout_s:
            context.instance.add_run_tags(context.run_id, {MAX_RUNTIME_TAG: str(int(timeout_s + GRACE_S))})
        with stop_on_signals() as stop:
            stop_with_parents(stop)
            yield at_work, Control(stop, timeout_s, at_work.report, peer_over(context))
    except CryptoflowError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    if stop.is_set():
        context.log.info("Ended cleanly on request.")
        _confirm_canceled(context)
        raise DagsterExecutionInterruptedError


def _confirm_canceled(context: dg.OpExecutionContext) -> None:
    """Have Dagster take the end as asked for: it calls one a failure that came as a mere signal, such as Ctrl-C."""
    run = context.instance.get_run_by_id(context.run_id)
    if run and run.status == dg.DagsterRunStatus.STARTED:
        context.instance.report_run_canceling(run)


def peer_over(context: dg.OpExecutionContext) -> Callable[[], bool] | None:
    """Tells whether the other op of the same run is over, asked of Dagster's own record; None: it has no other."""
    steps = {node.name for node in context.job_def.nodes} - {context.op.name}
    if not steps:
        return None

    def over() -> bool:
        found = context.instance.get_run_step_stats(context.run_id, step_keys=list(steps))
        return any(step.end_time for step in found)

    return over
