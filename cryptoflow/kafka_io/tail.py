"""The end of a topic: its last trades, and of a compacted one the newest records."""

import time
from collections.abc import Callable, Collection
from typing import Any

from kafka import TopicPartition

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.kafka_io.records import RECORDS_AT_ONCE, open_consumer, records_in
from cryptoflow.model.trade import Pair, Trade, read_trade
from cryptoflow.settings import KafkaSettings

BLOCK = 2_500
"""Records of a partition that are read at a time, backwards."""

ENOUGH_BLOCKS = 4
"""Of each partition are read in any case, as far as there is time: ten seconds of 1,000 trades/s."""

MOST_BLOCKS = 40
"""Of each partition are read for a pair that has not been met by then."""


def last_trades(
    settings: KafkaSettings,
    topic: str,
    pairs: Collection[Pair],
    taken: Callable[[Trade], bool],
    within_s: float,
    most_blocks: int = MOST_BLOCKS,
) -> list[Trade]:
    """The last trades of some pairs in a topic, in no certain order.

    From the end backwards, some 10,000 records of each partition, and further until each pair has some.

    Args:
        taken: whether a trade counts.
        within_s: when it is left at that, whatever was read.
        most_blocks: how far it goes back for a pair that has none.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: records did not come in time.
    """
    until_s = time.monotonic() + within_s
    found: list[Trade] = []
    with open_consumer(settings, topic, max_poll_records=BLOCK) as consumer:
        places, begins, ends = _extent(consumer, topic)
        unmet = set(pairs)
        for block in range(most_blocks):
            if time.monotonic() > until_s or (block >= ENOUGH_BLOCKS and not unmet):
                break
            for place in places:
                begin = max(begins[place], ends[place] - BLOCK)
                some = [_trade(record) for record in records_in(consumer, place, begin, ends[place])]
                wanted = [trade for trade in some if trade and trade.pair in pairs and taken(trade)]
                unmet -= {trade.pair for trade in wanted}
                found += wanted
                ends[place] = begin
    return found


def newest_values(settings: KafkaSettings, topic: str) -> dict[bytes, bytes]:
    """Of each key the value of its newest record, where it has one; raises as `last_trades`."""
    found: dict[bytes, bytes | None] = {}
    with open_consumer(settings, topic, max_poll_records=RECORDS_AT_ONCE) as consumer:
        places, begins, ends = _extent(consumer, topic)
        for place in places:
            for record in records_in(consumer, place, begins[place], ends[place]):
                found[record.key] = record.value
    return {key: value for key, value in found.items() if value}


Edges = dict[TopicPartition, int]


def _extent(consumer: Any, topic: str) -> tuple[list[TopicPartition], Edges, Edges]:
    """The topic's partitions, where they begin, and where they end."""
    places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    return places, consumer.beginning_offsets(places), consumer.end_offsets(places)


def _trade(record: Any) -> Trade | None:
    try:
        return read_trade(record.value or b"")
    except UnreadableFrameError:
        return None
