"""websocket -> Kafka."""

from collections.abc import Callable
from pathlib import Path

from cryptoflow.feeds.client import ClientEvent
from cryptoflow.feeds.source import Feed
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.pipeline.supervision import Control, FeedThread, Figures, feed_figures
from cryptoflow.settings import KafkaSettings


def ingest(
    feed: Feed, kafka: KafkaSettings, home: Path, control: Control, on_event: Callable[[ClientEvent], None]
) -> Figures:
    """Carry the feed's trades into Kafka until told to stop; what is in the figures as acknowledged is there.

    Raises:
        FeedError: the feed refuses the key or is gone for too long.
        KafkaError: Kafka is not there, gone for too long, or refuses a trade.
        AlreadyRunningError: another run carries trades into the topic.
    """
    make_topics(kafka)
    lock = home / "ingesters" / f"{kafka.topic}-{topic_id(kafka)}"
    with control.alone(lock, f"carries trades into {kafka.topic}"), TradeProducer(kafka) as producer:
        client = feed.client(producer, on_event)

        def figures() -> Figures:
            return feed_figures(client.stats) | {"acknowledged": producer.acked}

        with FeedThread(client) as thread:
            control.supervise(thread.check, figures)
            thread.end()
        producer.flush()
        return figures()
