"""The asset `candle_hours`, the job `repair` that makes its partitions, and the sensor that repairs marked hours."""

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

# A sensor has no public way to ask for a run of a range of partitions; a backfill launched in the UI sets these tags.
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from cryptoflow.defs.assets import OWNERS, TRADES_TOPIC, table_metadata
from cryptoflow.defs.resources import CassandraResource, KafkaResource, SparkResource
from cryptoflow.defs.runs import draining_run, live_runs, own_home, past_runs
from cryptoflow.defs.streaming import MAX_RUNTIME_TAG, StreamingConfig, streaming
from cryptoflow.errors import CryptoflowError
from cryptoflow.model.verdict import VERDICTS
from cryptoflow.model.window import HOUR
from cryptoflow.runtime.relaunch import MAX_DELAY_S, PastRun, delay_s
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, load
from cryptoflow.tables.schema import HOURS as HOURS_TABLE

if TYPE_CHECKING:
    from cryptoflow.pipeline.correct import RepairedHour
    from cryptoflow.pipeline.repair import Summary

# The repair is imported inside the asset: it brings Spark along; what the sensor asks, inside the sensor.

REPAIR, CANDLE_HOURS = "repair", "candle_hours"

POOL = "repair"
"""The pool of repairs: one at a time, beside the one of Spark's streams, which a repair must not wait for."""

FIRST_HOUR = "2020-01-01-00:00"
"""Of the partitions, UTC: before all that a topic of trades may hold."""

HOURS = dg.HourlyPartitionsDefinition(start_date=FIRST_HOUR, timezone="UTC", end_offset=1)
"""The hour at hand is one of them: what of it is finished can be repaired."""

MAX_RUNTIME_S = "86400"
"""A day: a week of 2,000 trades/s is rebuilt within hours. One that hangs for so long is ended."""

EVERY_S = 30
"""Between two looks of the sensor, in s."""

MOST_HOURS = 48
"""In one run that the sensor launches, so that what comes meanwhile does not wait for long."""

MOST_NAMED = 5
"""Hours named in a sentence."""


def hour_of(partition: str) -> datetime:
    """The hour (aware UTC) of a partition's key."""
    return datetime.strptime(partition, HOURS.fmt).replace(tzinfo=UTC)


def partition_of(hour: datetime) -> str:
    """The partition's key of an hour (aware UTC)."""
    return hour.strftime(HOURS.fmt)


with warnings.catch_warnings():
    # That one run may take many partitions is a beta of Dagster's.
    warnings.simplefilter("ignore", dg.BetaWarning)
    _hours_asset = dg.asset(
        name=CANDLE_HOURS,
        deps=[TRADES_TOPIC],
        partitions_def=HOURS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
        group_name="tables",
        kinds={"cassandra"},
        owners=OWNERS,
        metadata=table_metadata(HOURS_TABLE),
        # What was repaired is recorded hour by hour: Dagster's own record would come at the end, for all or none.
        output_required=False,
        description="The candles of an hour as the topic says, and what was found and done about each pair.",
    )


@_hours_asset
def candle_hours(
    context: dg.AssetExecutionContext, kafka: KafkaResource, cassandra: CassandraResource, spark: SparkResource
) -> Iterator[dg.Output[None]]:
    """Compute the hours' candles anew from the topic, and write what differs."""
    from cryptoflow.pipeline.repair import Wanted, repair

    def record(hour: datetime, done: "Sequence[RepairedHour]") -> None:
        metadata = hour_metadata(done)
        partition = partition_of(hour)
        context.log_event(dg.AssetMaterialization(CANDLE_HOURS, partition=partition, metadata=metadata))

    with streaming(context.op_execution_context, StreamingConfig(timeout_s=0)) as (_, run):
        # A backfill from the asset's page is no run of the job, and has no tags of it.
        context.instance.add_run_tags(context.run.run_id, {MAX_RUNTIME_TAG: MAX_RUNTIME_S})
        wanted = Wanted([hour_of(key) for key in context.partition_keys])
        summary = repair(kafka.settings(), cassandra.settings(), spark.settings(), run, wanted, record)
        _refuse_waiting(summary)
    yield from ()


def _refuse_waiting(summary: "Summary") -> None:
    """Fail the run for the hours that were not repaired, which shows them, and only them, as failed."""
    if not summary.waiting:
        return
    if summary.finished is None:
        why = "no aggregation of this topic into these tables has committed anything yet; run `aggregate` first"
    else:
        why = f"windows are finished until {summary.finished:%Y-%m-%d %H:%M} UTC only; run it again later"
    named = ", ".join(f"{hour:%Y-%m-%d %H:%M}" for hour in summary.waiting[:MOST_NAMED])
    more = ", ..." if len(summary.waiting) > MOST_NAMED else ""
    raise dg.Failure(f"{len(summary.waiting)} hours can't be repaired yet ({named}{more}): {why}.", allow_retries=False)


def hour_metadata(done: "Sequence[RepairedHour]") -> dict[str, Any]:
    """What a partition tells of its hour."""
    rows = [each.row for each in done]
    verdicts = Counter(row.verdict for row in rows)
    return {
        "trades_in_log": sum(row.in_log for row in rows),
        "trades_in_candles": sum(row.in_candles for row in rows),
        "late_repaired": sum(row.late for row in rows),
        "duplicates": sum(row.duplicates for row in rows),
        "gaps": sum(row.gaps for row in rows),
        "candles_written": sum(each.written for each in done),
        "candles_removed": sum(each.removed for each in done),
        **{verdict: verdicts[verdict] for verdict in VERDICTS},
        "pairs": _pairs(done),
    }


def _pairs(done: "Sequence[RepairedHour]") -> dg.TableMetadataValue:
    numbers = ("in_log", "in_candles", "late", "duplicates", "gaps", "written", "removed")
    names = ("market", "pair", "verdict", "reason", *numbers)
    schema = dg.TableSchema([dg.TableColumn(name, "int" if name in numbers else "string") for name in names])
    rows = (
        (row.market, f"{row.fromcoin}-{row.tocurrency}", row.verdict, row.reason, row.in_log, row.in_candles, row.late,
         row.duplicates, row.gaps, each.written, each.removed)
        for each in done
        for row in [each.row]
    )  # fmt: skip
    records = [dg.TableRecord(dict(zip(names, row, strict=True))) for row in rows]
    return dg.MetadataValue.table(records=records, schema=schema)


repair_job = dg.define_asset_job(
    REPAIR,
    selection=[CANDLE_HOURS],
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: MAX_RUNTIME_S},
    description="Recomputes hours of candles from the topics and judges them: those that are finished, or lack trades.",
)


class Tries(NamedTuple):
    """The sensor's cursor: the oldest hour of its last run, and how often in a row it was that one."""

    hour: str = ""
    runs: int = 0

    @classmethod
    def read(cls, cursor: str | None) -> "Tries":
        """As `text` wrote it; of what is none, a beginning."""
        hour, _, runs = (cursor or "").partition(" ")
        return cls(hour, int(runs)) if runs.isdecimal() else cls()

    @property
    def text(self) -> str:
        """For Dagster to keep."""
        return f"{self.hour} {self.runs}"

    def of(self, hour: str) -> int:
        """How often in a row an hour was tried."""
        return self.runs if hour == self.hour else 0


def first_stretch(hours: Sequence[datetime]) -> list[datetime]:
    """The first of them that follow upon each other, as one run takes them; `hours` ascend."""
    found = [hour for number, hour in enumerate(hours) if hour == hours[0] + number * HOUR]
    return found[:MOST_HOURS]


def reason_to_wait(past: Sequence[PastRun], tries: int, since_s: float, now_s: float) -> str | None:
    """Why an hour that was tried so often in a row is not repaired yet; None: it is.

    Args:
        past: the last runs, the newest first.
        since_s: when a user last turned the sensor on; what ended before does not count.
    """
    newest = next((run for run in past if run.ended_s > since_s), None)
    if newest is None:
        return None
    next_s = newest.ended_s + (MAX_DELAY_S if newest.terminated_by_hand else delay_s(tries))
    if now_s >= next_s:
        return None
    at = f"the next run is launched at {datetime.fromtimestamp(next_s, UTC):%H:%M:%S} UTC"
    if newest.terminated_by_hand:
        return f"Run {newest.run_id} was terminated by hand: {at}. To go on at once, turn this sensor off and on."
    return f"The oldest hour is marked still, or again, after {tries} runs in a row: {at}."


def ready_to_repair() -> list[datetime] | str:
    """The marked hours that can be repaired now, the oldest first; or why there are none.

    Raises:
        CryptoflowError: Cassandra or Kafka can't be asked.
    """
    from cryptoflow.kafka_io.records import topic_id
    from cryptoflow.tables import lease, progress, reader
    from cryptoflow.tables.connection import connect

    kafka, window_s = load(KafkaSettings), load(SparkSettings).window_s
    with connect(load(CassandraSettings)) as session:
        marks = reader.marks(session)
        if not marks:
            return "No hour is marked."
        row = lease.read(session, lease.REPAIR)
        if row and row.holder:
            return f"A repair is at work, {lease.described(row)}."
        at = progress.read(session, progress.Place(window_s, kafka.topic, topic_id(kafka)))
    ready = reader.ready_hours(marks, at.finished) if at else []
    if old := [hour for hour in ready if hour < hour_of(FIRST_HOUR)]:
        ready = ready[len(old) :]
        return ready or f"{len(old)} hours are marked that are older than the first partition: run `cryptoflow repair`."
    waiting = len({mark.hour for mark in marks})
    return ready or f"{waiting} hours are marked, and wait until the aggregation has finished the windows concerned."


@dg.sensor(
    job=repair_job,
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Launches repair for finished hours, and those with late trades, filled gaps or a failed audit.",
)
def repair_marked_hours(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Look whether hours wait that can be repaired."""
    if reason := _at_work(context.instance):
        return dg.SkipReason(reason)
    try:
        found = ready_to_repair()
    except CryptoflowError as error:
        return dg.SkipReason(str(error))
    if isinstance(found, str):
        return dg.SkipReason(found)
    return _launched(context, found)


def _at_work(instance: dg.DagsterInstance) -> str | None:
    home = own_home()
    for run in live_runs(instance, [REPAIR], home):
        return f"Run {run.run_id} of {REPAIR} is {run.status.value}."
    if run_id := draining_run(instance, REPAIR, home):
        return f"Run {run_id} is over in Dagster's record, but its process still works."
    return None


def _launched(context: dg.SensorEvaluationContext, hours: Sequence[datetime]) -> dg.SensorResult | dg.SkipReason:
    stretch = first_stretch(hours)
    first, last = partition_of(stretch[0]), partition_of(stretch[-1])
    tries = Tries.read(context.cursor).of(first)
    since_s = context.last_sensor_start_time or 0.0
    if reason := reason_to_wait(past_runs(context.instance, REPAIR), tries, since_s, time.time()):
        return dg.SkipReason(reason)
    return dg.SensorResult([_request(first, last)], cursor=Tries(first, tries + 1).text)


def _request(first: str, last: str) -> dg.RunRequest:
    """A run of all partitions from the first to the last."""
    if first == last:
        return dg.RunRequest(partition_key=first)
    return dg.RunRequest(tags={ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last})
