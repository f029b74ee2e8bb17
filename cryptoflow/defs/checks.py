"""The checks of the data, their job and its schedule. They need no Spark: a run of them takes seconds to minutes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from cryptoflow.defs.assets import DEAD_LETTERS_TOPIC, TRADES_TOPIC
from cryptoflow.defs.failures import as_failure
from cryptoflow.defs.resources import CassandraResource, FeedResource, KafkaResource, SparkResource
from cryptoflow.model.trade import Pair
from cryptoflow.model.verdict import SUSPECT
from cryptoflow.tables.schema import CANDLES, TRADE_WINDOWS
from cryptoflow.venues.reading import subscribed_pairs

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from cryptoflow.pipeline.audit import Comparison, FinishedHour, Span

# The audit is imported inside the checks: it brings the clients of Kafka and Cassandra along.

WARN_SHARE, ERROR_SHARE = 0.01, 0.10
"""Of all frames, those that can't be read: a few are a feed's bad day, a tenth is another format."""

MOST_BEHIND_S = 300.0
"""The oldest trade that waits to be aggregated: the default watermark, and many batches at the default trigger."""

SHOWN_ROWS = 100
"""Rows of a table in a check's metadata, at most."""

Found = TypeVar("Found")

NOTHING_FINISHED = "No hour is finished yet."


def _with_session(cassandra: CassandraResource, audit: "Callable[[Session], Found]") -> Found:
    """What an audit finds. What can't be checked fails the run: no check passes because Kafka is down."""
    from cryptoflow.tables.connection import connect

    with as_failure(), connect(cassandra.settings()) as session:
        return audit(session)


def _table(columns: Mapping[str, str], rows: Sequence[Sequence[str | int]]) -> dg.TableMetadataValue:
    """The first rows, under columns with their types."""
    schema = dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])
    records = [dg.TableRecord(dict(zip(columns, row, strict=True))) for row in rows[:SHOWN_ROWS]]
    return dg.MetadataValue.table(records=records, schema=schema)


def _span_text(span: "Span") -> str:
    return f"{span.start:%Y-%m-%d %H:%M} to {span.end:%H:%M} UTC"


CLOSED_HOUR = "closed_hour_matches_topic"


@dg.multi_asset_check(
    name=CLOSED_HOUR,
    specs=[
        dg.AssetCheckSpec(
            CLOSED_HOUR,
            asset=table.name,
            description="The newest finished hour has each distinct trade of the topic once, but for the late ones.",
        )
        for table in (CANDLES, TRADE_WINDOWS)
    ],
)
def closed_hour_matches_topic(
    kafka: KafkaResource, cassandra: CassandraResource, spark: SparkResource
) -> Iterator[dg.AssetCheckResult]:
    """Count the hour's trades in Kafka and in both tables."""
    from cryptoflow.pipeline.audit import finished_hour
    from cryptoflow.pipeline.marking import mark_pairs

    with as_failure():
        window_s = spark.settings().window_s

    def audited(session: "Session") -> "FinishedHour | None":
        hour = finished_hour(kafka.settings(), session, window_s)
        if hour and (pairs := unexplained_pairs(hour)):
            mark_pairs(session, cassandra.settings(), [(hour.span.start, pair) for pair in pairs], kafka.settings())
        return hour

    hour = _with_session(cassandra, audited)
    for table in (CANDLES, TRADE_WINDOWS):
        judged = _judged(hour, hour.candles if table is CANDLES else hour.sides) if hour else _nothing_finished()
        yield judged._replace(asset_key=dg.AssetKey(table.name), check_name=CLOSED_HOUR)


def unexplained_pairs(hour: "FinishedHour") -> list[Pair]:
    """The pairs that a repair of the hour may put right."""
    if hour.cut:
        return []
    wrong = [compared for compared in (hour.candles, hour.sides) if compared.unexplained]
    return sorted({(key[0], key[1], key[2]) for compared in wrong for key in compared.differences()})


def _nothing_finished() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, description=NOTHING_FINISHED)


def _judged(hour: "FinishedHour", compared: "Comparison") -> dg.AssetCheckResult:
    unexplained = compared.unexplained
    metadata: dict[str, Any] = {
        "hour": _span_text(hour.span),
        "trades_in_topic": sum(compared.topic.values()),
        "trades_in_table": sum(compared.table.values()),
        "late": compared.late,
        "unexplained": unexplained,
        "pairs": _pairs(compared),
    }
    if hour.cut:
        said = (
            "Kafka has deleted trades that may belong to the hour, so it can't be judged: raise the topic's retention."
        )
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, description=said, metadata=metadata
        )
    said = (
        f"{unexplained} trades differ between the topic and the table: the hour is marked for repair."
        if unexplained
        else "Every trade is there once."
    )
    return dg.AssetCheckResult(passed=not unexplained, description=said, metadata=metadata)


def _pairs(compared: "Comparison") -> dg.TableMetadataValue:
    """The counts by key, those that differ first."""
    differ = compared.differences()
    keys = sorted({*compared.topic, *compared.table}, key=lambda key: (key not in differ, key))
    rows = [(" ".join(key), compared.topic.get(key, 0), compared.table.get(key, 0), differ.get(key, 0)) for key in keys]
    return _table({"of": "string", "in_topic": "int", "in_table": "int", "missing": "int"}, rows)


@dg.asset_check(asset=CANDLES.name, description="Each subscribed pair has a candle for each window of that hour.")
def no_missing_minutes(
    kafka: KafkaResource, cassandra: CassandraResource, spark: SparkResource, feed: FeedResource
) -> dg.AssetCheckResult:
    """A pair without a trade in a minute has no candle: a warning, as it may be a quiet market or a gap of the feed."""
    from cryptoflow.pipeline.audit import missing_windows

    with as_failure():
        window_s = spark.settings().window_s
        pairs = list(dict.fromkeys(subscribed_pairs(feed.settings().subscription_list)))
    found = _with_session(cassandra, lambda session: missing_windows(kafka.settings(), session, window_s, pairs))
    if found is None:
        return _nothing_finished()
    span, missing = found
    rows = [
        (" ".join(pair), len(starts), f"{starts[0]:%H:%M:%S}", f"{starts[-1]:%H:%M:%S}")
        for pair, starts in missing.items()
    ]
    return dg.AssetCheckResult(
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(missing)} of {len(pairs)} pairs lack candles.",
        metadata={
            "hour": _span_text(span),
            "missing": sum(map(len, missing.values())),
            "pairs": _table({"pair": "string", "missing": "int", "first": "string", "last": "string"}, rows),
        },
    )


@dg.asset_check(asset=CANDLES.name, description="No hour of the last day is suspect, but those that wait for a trade.")
def no_suspect_hours(cassandra: CassandraResource) -> dg.AssetCheckResult:
    """The hours that lack trades, or of which it can't be told. The numbers of a later trade may yet prove an hour."""
    from cryptoflow.tables import hours

    since = datetime.now(UTC) - timedelta(days=1)
    rows = _with_session(cassandra, lambda session: hours.since(session, since))
    suspect = [row for row in rows if row.verdict == SUSPECT and not hours.is_pending(row)]
    shown = [
        (f"{row.hour:%Y-%m-%d %H:%M}", row.market, f"{row.fromcoin}-{row.tocurrency}", row.gaps, row.reason)
        for row in sorted(suspect, key=lambda row: row.hour, reverse=True)
    ]
    columns = {"hour": "string", "market": "string", "pair": "string", "gaps": "int", "reason": "string"}
    return dg.AssetCheckResult(
        passed=not suspect,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(suspect)} of {len(rows)} hours are suspect.",
        metadata={
            "hours": len(rows),
            "suspect": len(suspect),
            "pending": sum(map(hours.is_pending, rows)),
            "suspect_hours": _table(columns, shown),
        },
    )


@dg.asset_check(
    asset=DEAD_LETTERS_TOPIC,
    description=f"At most {WARN_SHARE:.0%} of the last hour's frames can't be read; error above {ERROR_SHARE:.0%}.",
)
def dead_letter_share(kafka: KafkaResource, cassandra: CassandraResource) -> dg.AssetCheckResult:
    """Unreadable frames of the feed and in the topic, against all."""
    from cryptoflow.pipeline.audit import dead_letters

    since = datetime.now(UTC) - timedelta(hours=1)
    found = _with_session(cassandra, lambda session: dead_letters(kafka.settings(), session, since))
    error = found.share > ERROR_SHARE
    return dg.AssetCheckResult(
        passed=found.share <= WARN_SHARE,
        severity=dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN,
        description=f"{found.share:.2%} of {found.frames:,} frames of the last hour could not be read.",
        metadata={"share": found.share, **found._asdict()},
    )


@dg.asset_check(
    asset=TRADES_TOPIC,
    description=f"No trade waits longer than {MOST_BEHIND_S:g} s in the topic to be aggregated.",
)
def lag(kafka: KafkaResource, cassandra: CassandraResource, spark: SparkResource) -> dg.AssetCheckResult:
    """What is in Kafka and in no committed batch, judged by the time of the oldest."""
    from cryptoflow.pipeline.audit import backlog

    now_s = datetime.now(UTC).timestamp()
    with as_failure():
        window_s = spark.settings().window_s
    found = _with_session(cassandra, lambda session: backlog(kafka.settings(), session, window_s, now_s))
    oldest_s = found.oldest_s or 0.0
    said = f"{found.trades:,} trades wait, the oldest for {oldest_s:,.0f} s."
    if found.deleted:
        said += f" Kafka has deleted {found.deleted:,} before they were aggregated: raise the topic's retention."
    return dg.AssetCheckResult(
        passed=oldest_s <= MOST_BEHIND_S and not found.deleted,
        description=said,
        metadata={"waiting": found.trades, "oldest_s": round(oldest_s, 3), "deleted": found.deleted},
    )


MAX_RUNTIME_S = "1800"
"""A run of the checks holds no lease: if it is killed, this ends its record. 70 million trades are counted by then."""

data_checks = dg.define_asset_job(
    "data_checks",
    selection=dg.AssetSelection.all_asset_checks(),
    executor_def=dg.in_process_executor,
    tags={"dagster/max_runtime": MAX_RUNTIME_S},
    description="All checks of the data.",
)

hourly_data_checks = dg.ScheduleDefinition(
    name="hourly_data_checks",
    job=data_checks,
    cron_schedule="10 * * * *",  # an hour is finished when the watermark, 5 minutes by default, has passed its end
    execution_timezone="UTC",
    description="All checks of the data, when an hour's windows are finished.",
)
