"""The asset `venue_history`: days of past trades by pair, over the venues' REST, and the job that fills it."""

import warnings
from collections.abc import Iterable, Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.tags import MAX_RETRIES_TAG, RETRY_ON_ASSET_OR_OP_FAILURE_TAG

from cryptoflow.defs.assets import OWNERS, VENUE_HISTORY
from cryptoflow.defs.resources import FeedResource, KafkaResource
from cryptoflow.defs.streaming import MAX_RUNTIME_TAG, StreamingConfig, streaming
from cryptoflow.errors import ConfigError
from cryptoflow.settings import FeedSettings, load
from cryptoflow.venues import VENUES
from cryptoflow.venues.reading import subscribed_pairs

if TYPE_CHECKING:
    from cryptoflow.pipeline.history_fetch import PairDay
    from cryptoflow.pipeline.history_plan import Fetched

# The fetch is imported inside the asset: it brings the client of Kafka along.

BACKFILL_HISTORY = "backfill_history"

POOL = "history"
"""The pool of fetches: one at a time is as fast as the venues let anybody be."""

FIRST_DAY = "2020-01-01"
"""Of the partitions, UTC, as those of the hours of candles."""

MAX_RUNTIME_S = "86400"
"""A day of 5 million trades over Kraken's REST takes 4 hours, and a venue may be away for some."""

TAGS = {
    MAX_RUNTIME_TAG: MAX_RUNTIME_S,
    # A run that was killed is launched again, as part of its backfill; one that says why it failed is not.
    MAX_RETRIES_TAG: "100",
    RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "false",
}


def pair_names(subscriptions: Iterable[str]) -> list[str]:
    """The pairs among subscriptions whose past a venue tells, as partitions are named."""
    found = subscribed_pairs(sub for sub in subscriptions if any(venue.takes(sub) for venue in VENUES.values()))
    return ["~".join(pair) for pair in dict.fromkeys(found)]


def _configured() -> list[str]:
    """The pairs of the environment; those of the default where that can't be used, which each run tells by itself."""
    try:
        return pair_names(load(FeedSettings).subscription_list)
    except ConfigError:
        return pair_names(load(FeedSettings, env={}).subscription_list)


DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, timezone="UTC")
PAIRS = dg.StaticPartitionsDefinition(_configured())
DAYS_OF_PAIRS = dg.MultiPartitionsDefinition({"date": DAYS, "pair": PAIRS})


with warnings.catch_warnings():
    # That one run may take many partitions is a beta of Dagster's.
    warnings.simplefilter("ignore", dg.BetaWarning)
    _days_asset = dg.asset(
        name=VENUE_HISTORY,
        partitions_def=DAYS_OF_PAIRS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
        group_name="stream",
        owners=OWNERS,
        kinds={"kafka"},
        # What was fetched is recorded day by day: Dagster's own record would come at the end, for all or none.
        output_required=False,
        description="The Kafka topic of trades of the past, a day of a pair at a time, as the venue's REST tells them.",
    )


@_days_asset
def venue_history(
    context: dg.AssetExecutionContext, feed: FeedResource, kafka: KafkaResource
) -> Iterator[dg.Output[None]]:
    """Fetch what of the days is not in the topic yet."""
    from cryptoflow.pipeline.history_fetch import fetch

    keys = {pair_day(key): key for key in context.partition_keys}

    def record(day: "PairDay", fetched: "Fetched") -> None:
        if fetched.lost:
            context.log.warning(fetched.lost)
        context.log.info(sentence_of(day, fetched))
        metadata = metadata_of(fetched)
        context.log_event(dg.AssetMaterialization(VENUE_HISTORY, partition=keys[day], metadata=metadata))

    with streaming(context.op_execution_context, StreamingConfig(timeout_s=0)) as (at_work, run):
        # A backfill from the asset's page is no run of the job, and has no tags of it.
        context.instance.add_run_tags(context.run.run_id, TAGS)
        at_work.report(fetch(feed.settings(), kafka.settings(), [*keys], run, record, context.log.warning))
    yield from ()


def pair_day(key: str) -> "PairDay":
    """The day of a pair that is a partition."""
    from cryptoflow.pipeline.history_fetch import PairDay

    parts = DAYS_OF_PAIRS.get_partition_key_from_str(key).keys_by_dimension
    market, coin, currency = parts["pair"].split("~")
    return PairDay((market, coin, currency), date.fromisoformat(parts["date"]))


def sentence_of(day: "PairDay", fetched: "Fetched") -> str:
    """What is known of a day, in a sentence."""
    begin = f"{fetched.trades:,} trades of {'-'.join(day.pair[1:])} on {day.pair[0]}, {day.day}, are in the topic"
    match fetched.missing:
        case None:
            return f"{begin}; whether that is all can't be told, as no trade after it, or none before it, is known."
        case 0:
            return f"{begin}: all, as their ids prove."
        case missing:
            return f"{begin}; {missing:,} ids between them have no trade at the venue."


def metadata_of(fetched: "Fetched") -> dict[str, Any]:
    """What a partition tells of its day."""
    told: dict[str, Any] = {"trades": fetched.trades, "pages": fetched.pages, "proven": fetched.missing == 0}
    ids = {"first_id": fetched.first, "last_id": fetched.last, "missing_ids": fetched.missing}
    told |= {name: value for name, value in ids.items() if value is not None}
    return told | ({"lost": fetched.lost} if fetched.lost else {})


backfill_history = dg.define_asset_job(
    BACKFILL_HISTORY,
    selection=[VENUE_HISTORY],
    executor_def=dg.in_process_executor,
    tags=TAGS,
    description="Fetches past trades of pairs, day by day, into the history topic; their hours are then repaired.",
)
