"""Catch-up by Flink SQL: its process, and the candles that it found."""

import json
import tempfile
from pathlib import Path

from benchmarks.compare import Rows, rows_of
from benchmarks.environment import connector_jar, flink_python, program_env
from benchmarks.measured import Run, run
from cryptoflow.settings import KafkaSettings, home

VARIANTS = {
    "row_number": "the first of each identity (ROW_NUMBER() = 1)",
    "distinct": "distinct rows",
    "none": "no deduplication",
}
"""How it deduplicates; `flink_job.SOURCES` has the SQL."""

JVM_ARGS = "-XX:+UseParallelGC"
"""Takes a sixth less of the cores here than Java's default."""


def catch_up(kafka: KafkaSettings, variant: str) -> tuple[Run, Rows]:
    """What Flink took for the topic's candles, and the candles.

    Raises:
        ProgramError: it failed.
        PrerequisiteError: it can't be had.
    """
    python, jar = flink_python(home()), connector_jar(home())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "rows.json")
        arguments = (kafka.bootstrap_servers, kafka.topic, variant, str(jar), str(out))
        command = [str(python), "-m", "benchmarks.flink_job", *arguments]
        took = run(command, program_env() | {"JVM_ARGS": JVM_ARGS})
        return took, rows_of(json.loads(out.read_text()))
