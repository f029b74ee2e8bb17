"""websocket -> Kafka."""

from collections.abc import Callable
from pathlib import Path

from cryptoflow.feeds.client import ClientEvent
from cryptoflow.feeds.source import Feed
from cryptoflow.kafka_io.lease import TTL_S, ingest_lease
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.pipeline.supervision import Control, FeedThread, Figures, feed_figures
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import KafkaSettings


def ingest(
    feed: Feed, kafka: KafkaSettings, home: Path, control: Control, on_event: Callable[[ClientEvent], None]
) -> Figures:
    """Carry the feed's trades into Kafka until told to stop; what is in the figures as acknowledged is there.

    Raises:
        FeedError: the feed refuses the key or is gone for too long.
        KafkaError: Kafka is not there, gone for too long, or refuses a trade.
        AlreadyRunningError: another run carries trades into the topic, from wherever.
        LeaseLostError: another run has begun to, while this one did not answer.
    """
    make_topics(kafka)
    holder = Holder.current(control.owner, home)
    held = ingest_lease(kafka, holder, stop=control.stop, is_ending=control.is_ending, ttl_s=TTL_S)
    with held as lease, TradeProducer(kafka) as producer:
        client = feed.client(producer, on_event)

        def figures() -> Figures:
            return feed_figures(client.stats) | {"acknowledged": producer.acked}

        def check() -> None:
            thread.check()
            lease.alive()
            lease.check()

        with FeedThread(client) as thread:
            control.supervise(check, figures)
            lease.alive(2 * kafka.delivery_timeout_s + TTL_S)  # the feed's end, and the flush, wait for deliveries
            thread.end()
        producer.flush()
        return figures()
