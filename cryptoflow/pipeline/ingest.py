"""websocket -> Kafka; and what the websocket did not bring, out of REST."""

from collections.abc import Callable

from cryptoflow.feeds.source import Feed
from cryptoflow.kafka_io.lease import TTL_S, Leases, ingest_leases
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.pipeline.feeding import Feeding
from cryptoflow.pipeline.history import earlier_of, filling_of
from cryptoflow.pipeline.part import Part, RunContext, live
from cryptoflow.runtime.metrics import IngestMetrics
from cryptoflow.settings import KafkaSettings


def ingest(feed: Feed, kafka: KafkaSettings, run: RunContext) -> IngestMetrics:
    """Carry the feed's trades into Kafka until told to stop; what the metrics tell as acknowledged is there.

    Raises:
        FeedError: the feed refuses the key or is gone for too long.
        KafkaError: Kafka is not there, gone for too long, or refuses a trade.
        AlreadyRunningError: another run carries trades of one of the venues into the topic, from wherever.
        LeaseLostError: another run has begun to, while this one did not answer.
    """
    make_topics(kafka)
    held = ingest_leases(kafka, run.holder(), feed.venues, stop=run.stop, is_ending=run.is_ending, ttl_s=TTL_S)
    with held as lease, TradeProducer(kafka) as producer, filling_of(kafka, feed) as filling:
        client = feed.client(producer, run.on_event, earlier_of(kafka, feed), filling)
        return live(Ingester(Feeding(client), producer, lease, kafka), run)


class Ingester(Part[IngestMetrics]):
    """An ingester at work."""

    def __init__(self, feeding: Feeding, producer: TradeProducer, lease: Leases, kafka: KafkaSettings) -> None:
        self._feeding, self._producer, self._lease, self._kafka = feeding, producer, lease, kafka

    def start(self) -> None:
        """Open the feed."""
        self._feeding.start()

    def check(self) -> None:
        """See that the client receives and the lease is held."""
        self._feeding.check()
        self._lease.alive()
        self._lease.check()

    def drain(self, overdue: Callable[[], bool]) -> None:
        """Leave the feed, and wait until Kafka has all that came."""
        self._lease.alive(2 * self._kafka.delivery_timeout_s + TTL_S)  # the feed's end, too, waits for deliveries
        self._feeding.end()
        self._producer.flush()

    def stop(self) -> None:
        """Leave the feed."""
        self._feeding.stop()

    def metrics(self) -> IngestMetrics:
        """What came, and what of it Kafka has."""
        return IngestMetrics(feed=self._feeding.metrics(), acknowledged=self._producer.acked)
