"""Which trades the topics of a trial hold, by their ids: followed while it goes on."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import msgspec
from kafka import TopicPartition

from cryptoflow.kafka_io.records import open_consumer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Pair
from cryptoflow.settings import KafkaSettings
from cryptoflow.simulator.sent import Ids
from cryptoflow_tests.topics import POLL_RECORDS


class _Record(msgspec.Struct):
    market: str = msgspec.field(name="M")
    from_coin: str = msgspec.field(name="FSYM")
    to_currency: str = msgspec.field(name="TSYM")
    id: str = msgspec.field(name="ID")
    time_s: int = msgspec.field(name="TS")


_decoder = msgspec.json.Decoder(_Record)


class Topics:
    """Those of live trades and of the past, as far as they were read.

    Attributes:
        live, all: the ids of each pair, in the first one and in any.
        newest_s: the newest exchange time of each pair.
        filled: how many records the second one has.
    """

    def __init__(self, kafka: KafkaSettings, consumer: Any) -> None:
        self.live: dict[Pair, Ids] = defaultdict(Ids)
        self.all: dict[Pair, Ids] = defaultdict(Ids)
        self.newest_s: dict[Pair, int] = defaultdict(int)
        self.filled = 0
        self._live_topic, self._consumer = kafka.topic, consumer
        self._places = [
            TopicPartition(topic, number)
            for topic in (kafka.topic, kafka.history_topic)
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        consumer.assign(self._places)
        consumer.seek_to_beginning(*self._places)

    def read(self) -> None:
        """Read all that is new."""
        ends = self._consumer.end_offsets(self._places)
        while any(self._consumer.position(place) < end for place, end in ends.items()):
            for place, records in self._consumer.poll(timeout_ms=1000).items():
                live = place.topic == self._live_topic
                self.filled += 0 if live else len(records)
                for record in records:
                    self._take(_decoder.decode(record.value), live)

    def _take(self, trade: _Record, live: bool) -> None:
        pair, number = (trade.market, trade.from_coin, trade.to_currency), int(trade.id)
        self.all[pair].add(number)
        if live:
            self.live[pair].add(number)
        self.newest_s[pair] = max(self.newest_s[pair], trade.time_s)

    def ends(self) -> dict[Pair, range]:
        """From the first id of each pair to the last one."""
        found = {pair: ids.stretches for pair, ids in self.all.items()}
        return {pair: range(stretches[0].start, stretches[-1].stop) for pair, stretches in found.items()}

    def holes(self, pair: Pair, before: int) -> list[range]:
        """The ids of a pair that are lacking, of holes that begin before an id."""
        stretches = pairwise(self.all[pair].stretches)
        return [range(one.stop, other.start) for one, other in stretches if one.stop < before]


@contextmanager
def followed(kafka: KafkaSettings) -> Iterator[Topics]:
    """The topics, which are made."""
    make_topics(kafka)
    with open_consumer(kafka, kafka.topic, max_poll_records=POLL_RECORDS) as consumer:
        yield Topics(kafka, consumer)
