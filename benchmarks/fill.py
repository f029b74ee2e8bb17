"""Topics full of the benchmark's trades, written by as many processes as there are writers."""

import subprocess
import time

from benchmarks.environment import flink_python, program_env
from benchmarks.measured import ProgramError, end
from benchmarks.trades import TRADES_PER_S, WRITERS
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.settings import KafkaSettings, home

HOUR_S = 3600
TIMEOUT_S = 1800.0


def fill(kafka: KafkaSettings, trades: int) -> None:
    """Make the topic, with `trades` records in it: a backlog that ended an hour ago or two, at a full hour's distance.

    Raises:
        ProgramError: not all of them are there.
    """
    make_topics(kafka)
    start_s = (int(time.time()) - trades // TRADES_PER_S) // HOUR_S * HOUR_S - HOUR_S
    writers = [_writer(kafka, writer, trades // WRITERS, start_s) for writer in range(WRITERS)]
    try:
        told = [writer.communicate(timeout=TIMEOUT_S)[0] for writer in writers]
    finally:
        for writer in writers:
            end(writer.pid)
    found = sum(end_offsets(kafka, kafka.topic).values())
    if found != trades // WRITERS * WRITERS:
        raise ProgramError(f"{found} records are in the topic instead of {trades}: {''.join(told)}")


def _writer(kafka: KafkaSettings, writer: int, count: int, start_s: int) -> "subprocess.Popen[str]":
    arguments = (kafka.bootstrap_servers, kafka.topic, writer, count, start_s * 1_000_000_000)
    return subprocess.Popen(
        [str(flink_python(home())), "-m", "benchmarks.filler", *map(str, arguments)],
        env=program_env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
