"""`python -m benchmarks.filler BOOTSTRAP TOPIC WRITER COUNT START_NS`: a writer's trades into a topic, fast.

Runs in the environment of `benchmarks.environment`, which has librdkafka. A record's key, partition and time are what
the ingester would have given it.
"""

import sys
from time import perf_counter

from confluent_kafka import Producer  # type: ignore[import-not-found,import-untyped,unused-ignore]

from benchmarks.trades import PAIRS, sent

MOST_WAITING = 500_000
"""Records in librdkafka's queue."""


def fill(bootstrap_servers: str, topic: str, writer: int, count: int, start_ns: int) -> None:
    """Send them all, and wait until they are acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 1 << 19,
            "queue.buffering.max.messages": MOST_WAITING,
            "queue.buffering.max.kbytes": 1 << 18,
        }
    )
    keys = ["~".join(pair).encode() for pair in PAIRS[writer]]
    for number, (pair, received_ms, frame) in enumerate(sent(writer, count, start_ns)):
        while True:
            try:
                producer.produce(topic, frame, keys[pair], timestamp=received_ms)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
    if left := producer.flush(120):
        sys.exit(f"{left} records were not acknowledged")


if __name__ == "__main__":
    begun_s = perf_counter()
    fill(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
    sys.stderr.write(f"{perf_counter() - begun_s:.1f} s\n")
