"""The streaming ops."""

from collections.abc import Sequence

import dagster as dg

from cryptoflow.defs.resources import CassandraResource, FeedResource, KafkaResource, SparkResource
from cryptoflow.defs.streaming import StreamingConfig, streaming
from cryptoflow.feeds.source import destination, open_feed
from cryptoflow.model.candle import Candle

# The pipeline and the screen are imported inside the ops: Dagster loads these definitions in processes that never
# stream.

SHOWN_CANDLES = 50
"""Candles in the log and metadata of a run, at most."""

SPARK_POOL = "spark"
"""The pool of what runs a Spark session: as many at once as its limit says, 1 in dagster.yaml."""


@dg.op(
    description="""websocket -> Kafka, until the timeout.

Carries the trades of the source that the resource `feed` names into the topic, keyed by market and pair; a frame that
can't be read goes into the dead letters, with the reason. It reconnects by itself, tells gaps, and at its end waits
until Kafka has acknowledged all that came. One ingester for a topic: a second one is refused.""",
    tags={"kind": "kafka"},
)
def ingest_trades(
    context: dg.OpExecutionContext,
    config: StreamingConfig,
    feed: FeedResource,
    kafka: KafkaResource,
) -> None:
    """Carry the feed's trades into Kafka."""
    from cryptoflow.pipeline.ingest import ingest

    with streaming(context, config) as (at_work, run), open_feed(feed.settings()) as source:
        into = kafka.settings()
        at_work.announce(f"{source.notice} {destination(into.topic)}")
        at_work.finish(ingest(source, into, run))


@dg.op(
    description="""Kafka -> Spark -> Cassandra, until the timeout and all is drained.

Works a backlog off as batches first, then streams: trades are deduplicated, placed by exchange time, and aggregated
into both tables; late ones mark their hour for a repair. It goes on where the last one was, on whichever machine that
ran.""",
    tags={"kind": "spark"},
    pool=SPARK_POOL,
)
def aggregate_trades(
    context: dg.OpExecutionContext,
    config: StreamingConfig,
    kafka: KafkaResource,
    spark: SparkResource,
    cassandra: CassandraResource,
) -> None:
    """Aggregate the topic's trades into the candles of both tables."""
    from cryptoflow.pipeline.aggregate import aggregate

    with streaming(context, config) as (at_work, run):
        at_work.finish(aggregate(kafka.settings(), cassandra.settings(), spark.settings(), run))


@dg.op(
    description="""websocket -> Spark -> console, until the timeout.

The same client and the same query with a bounded buffer between them: neither Kafka nor Cassandra is needed. The
candles are in this op's log and in the metadata of its output.""",
    tags={"kind": "spark"},
    pool=SPARK_POOL,
)
def aggregate_in_memory(
    context: dg.OpExecutionContext,
    config: StreamingConfig,
    feed: FeedResource,
    spark: SparkResource,
) -> None:
    """Aggregate the feed's trades; the candles go to the console and into the run's metadata."""
    from cryptoflow.pipeline import memory
    from cryptoflow.render import candle_table, new_console

    console = new_console()

    with streaming(context, config) as (at_work, run), open_feed(feed.settings()) as source:

        def show(candles: Sequence[Candle]) -> None:
            newest = sorted(candles, key=lambda candle: candle.window_start, reverse=True)
            at_work.status.candles = newest[:SHOWN_CANDLES]
            console.print(candle_table(newest[:SHOWN_CANDLES]))

        def refuse(frame: bytes, reason: str) -> None:
            context.log.warning(f"Unreadable frame: {reason}")

        at_work.announce(source.notice)
        candles, metrics = memory.aggregate_in_memory(source, spark.settings(), run, show, refuse)
        show(candles)
        context.add_output_metadata({"candles": candle_metadata(candles[:SHOWN_CANDLES])})
        at_work.finish(metrics)


def candle_metadata(candles: Sequence[Candle]) -> dg.TableMetadataValue:
    """The candles as a table in Dagster's UI."""
    columns = ("open", "high", "low", "close", "vwap", "quantity", "volume", "trades")
    records = [
        dg.TableRecord(
            {
                "window_start": f"{candle.window_start:%Y-%m-%d %H:%M:%S}",
                "market": candle.market,
                "pair": f"{candle.from_coin}-{candle.to_currency}",
                **{column: _shown(getattr(candle, column)) for column in columns},
            }
        )
        for candle in candles
    ]
    names = ("window_start", "market", "pair", *columns)
    kinds = {"trades": "int"} | dict.fromkeys(names[:3], "string")
    schema = dg.TableSchema([dg.TableColumn(name, kinds.get(name, "float")) for name in names])
    return dg.MetadataValue.table(records=records, schema=schema)


def _shown(value: float) -> float:
    """As many digits as a cell of the table holds."""
    return value if isinstance(value, int) else float(f"{value:.8g}")
