"""What a trade costs in the stream, once it runs: read, decoded and packed; and what its state adds to that."""

import json
import sys
import uuid
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import measured
from benchmarks.environment import program_env
from benchmarks.fill import fill
from benchmarks.measured import await_quiet
from cryptoflow.settings import KafkaSettings, home

BATCH_TRADES = 400_000
BATCHES, COUNTED = 5, 3
"""Batches after the first, and how many of them, the last ones, count: by then the state is as large as it gets."""


def measure(kafka: KafkaSettings, patience_s: float) -> dict[str, Any]:
    """The figures of both."""
    topic = kafka.model_copy(update={"topic": f"bench-{uuid.uuid4().hex}"})
    fill(topic, BATCH_TRADES * (BATCHES + 1))
    ways = {name: _way(topic, whole, patience_s) for name, whole in (("read", False), ("whole", True))}
    state_us = ways["whole"]["cpu_us_per_trade"] - ways["read"]["cpu_us_per_trade"]
    return {"batch_trades": BATCH_TRADES, "ways": ways, "state_cpu_us_per_trade": round(state_us, 2)}


def _way(kafka: KafkaSettings, whole: bool, patience_s: float) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        (Path(folder) / "jars").symlink_to(home() / "jars")
        given = {
            "kafka": kafka.model_dump(),
            "home": folder,
            "batch_trades": BATCH_TRADES,
            "batches": BATCHES,
            "whole": whole,
        }
        await_quiet(patience_s)
        run = measured.run([sys.executable, "-m", "benchmarks.stream_job", json.dumps(given)], program_env())
    taken = json.loads(run.told.splitlines()[-1])[-COUNTED:]
    return {
        "cpu_us_per_trade": round(median(cpu_us for cpu_us, _ in taken), 2),
        "trades_per_s": round(median(rate for _, rate in taken)),
        "others_cores": round(run.others_cores, 2),
    }
