"""The check `agrees_with_venue`: candles against the venues' own, and the job of it alone."""

import threading
from typing import TYPE_CHECKING, Any

import dagster as dg

from cryptoflow.defs.failures import as_failure
from cryptoflow.defs.resources import CassandraResource, FeedResource, KafkaResource, SparkResource
from cryptoflow.defs.runs import own_home
from cryptoflow.feeds.rest import Rest
from cryptoflow.model.window import EPOCH, HOUR, utc_hour
from cryptoflow.runtime.holder import Holder
from cryptoflow.tables.schema import CANDLES
from cryptoflow.venues import VENUES

if TYPE_CHECKING:
    from cryptoflow.model.parity import Share
    from cryptoflow.pipeline.parity import DayOfPair

# The comparison is imported inside the check: it brings the clients of Kafka and Cassandra along.

AGREES_WITH_VENUE = "agrees_with_venue"

LAST_HOURS = 3
"""Finished hours that are compared: more than one, as what was repaired since is seen so, too."""

AGAIN_HOURS = 24
"""Hours that differed are compared again for so long: when they are repaired, they may agree."""

REST_FOR_S = 60.0
"""How long one request is tried; the check tells of a venue that is away."""

MAX_RUNTIME_S = "1800"


@dg.asset_check(
    asset=CANDLES.name,
    name=AGREES_WITH_VENUE,
    description=f"The venues' own one-minute candles of the last {LAST_HOURS} finished hours say the same.",
)
def agrees_with_venue(
    context: dg.AssetCheckExecutionContext,
    kafka: KafkaResource,
    cassandra: CassandraResource,
    spark: SparkResource,
    feed: FeedResource,
) -> dg.AssetCheckResult:
    """A minute that is off is a warning: the venues' candles and their own trades differ at times."""
    from cryptoflow.pipeline import agreement, parity
    from cryptoflow.tables.connection import connect

    stop = threading.Event()
    with as_failure():
        source = feed.settings()
        pairs = parity.pairs_of(source)
        if not pairs:
            return _passed("The trades come from no venue that has candles of its own.")
        parity.refuse_other_windows(spark.settings().window_s)
        with connect(cassandra.settings()) as session:
            finished = parity.finished_by(session, kafka.settings())
            if finished == EPOCH:
                return _passed("No hour is finished yet.")
            end = utc_hour(finished)
            differed = agreement.since_disagreed(session, end - AGAIN_HOURS * HOUR, pairs)
            start = min(end - LAST_HOURS * HOUR, differed or end)

            def rest_of(name: str) -> Rest:
                return Rest(VENUES[name], source.venue_rest_url(name), stop, REST_FOR_S, context.log.warning)

            days = list(parity.compare(session, finished, pairs, rest_of, start, end))
            holder = Holder.current(context.run.run_id, own_home())
            agreement.put_down(session, kafka.settings(), cassandra.settings(), days, holder, context.log.warning)
    share = parity.total(days)
    metadata = metadata_of(share, parity.report(days))
    context.op_execution_context.log_event(dg.AssetObservation(CANDLES.name, metadata=plotted(share)))
    return dg.AssetCheckResult(
        passed=not share.off and not any(day.why for day in days if VENUES[pairs[day.pair]].most_bars),
        severity=dg.AssetCheckSeverity.WARN,
        description=sentence_of(share, days),
        metadata=metadata,
    )


def _passed(said: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, description=said)


def sentence_of(share: "Share", days: "list[DayOfPair]") -> str:
    """What came out, in a sentence or two."""
    said = (
        f"{share.text} of {share.exact + share.off:,} minutes that could be compared are exact; {share.off:,} are off."
    )
    unasked = "; ".join(dict.fromkeys(day.why for day in days if day.why))
    return f"{said} {unasked}." if unasked else said


def plotted(share: "Share") -> dict[str, Any]:
    """The counts, and the share of exact minutes, as Dagster plots them."""
    of_compared = share.of_compared
    counts = {f"minutes_{name}": number for name, number in share._asdict().items()}
    return counts | ({} if of_compared is None else {"exact_share": round(of_compared, 6)})


def metadata_of(share: "Share", report: str) -> dict[str, Any]:
    """What the check tells: the counts, and the report by day."""
    return plotted(share) | {"report": dg.MetadataValue.md(report)}


agrees_with_venue_job = dg.define_asset_job(
    AGREES_WITH_VENUE,
    selection=dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(CANDLES.name), AGREES_WITH_VENUE)),
    executor_def=dg.in_process_executor,
    tags={"dagster/max_runtime": MAX_RUNTIME_S},
    description="Asks the venues for their own one-minute candles and compares them with those here.",
)
