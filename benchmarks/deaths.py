"""`python -m benchmarks.deaths [--times N] [--rate R]`: what dies, and how long until all streams again.

Kafka and Cassandra of their own, a feed of R trades/s, a `dagster dev` that is started again when it ends, and both
sensors on. Each death comes N times, in a random order and at random moments. In the end both tables are compared
with the candles that follow from what Kafka holds.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

from rich.table import Table

from benchmarks.services import services
from cryptoflow.render import new_console
from cryptoflow.settings import CassandraSettings, KafkaSettings, home
from cryptoflow_tests.orchestration.deaths import DEATHS, Death, Outcome, scenario

LONGEST_LIFE_S = 5.0
"""Between all being well and the next death, at most."""


def times(values: Sequence[float]) -> str:
    """Median and worst."""
    return f"{median(values):.1f} s, {max(values):.1f} s" if values else "-"


def table_of(deaths: Sequence[Death]) -> Table:
    """A line for each kind of death."""
    table = Table("SIGKILL to", "times", "processes", "until the record is ended", "until all streams again")
    table.caption = "median, worst"
    for kind in DEATHS:
        these = [death for death in deaths if death.kind == kind]
        ended = [death.ended_s for death in these if death.ended_s is not None]
        killed = max(death.killed for death in these)
        table.add_row(kind, str(len(these)), str(killed), times(ended), times([death.live_s for death in these]))
    return table


def sentences(outcome: Outcome) -> list[str]:
    """What is left, line by line."""
    found = [
        f"{job}: {outcome.runs[job]} runs; at once {outcome.most_started[job]} STARTED and "
        f"{outcome.most_workers[job]} processes at most; terminated: {outcome.statuses[job]}"
        for job in outcome.runs
    ]
    return [
        *found,
        f"Spark's JVMs at once: {outcome.most_jvms} at most",
        f"{outcome.trades:,} trades in the topic, {outcome.late} late; both tables hold exactly their candles",
    ]


def survived(
    kinds: Iterable[str],
    times: int,
    rate: float,
    seed: int,
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    say: Callable[[str], None],
) -> tuple[list[Death], Outcome]:
    """Each kind of death so many times, in a random order; both tables are exact after them."""
    rng, deaths = random.Random(seed), list[Death]()
    every = [kind for kind in kinds for _ in range(times)]
    with (
        tempfile.TemporaryDirectory() as folder,
        scenario(Path(folder), kafka, cassandra, home(), rate) as streaming,
    ):
        for kind in rng.sample(every, len(every)):
            deaths.append(streaming.die(kind, after_s=rng.uniform(0, LONGEST_LIFE_S)))
            say(f"{kind}: all streams again after {deaths[-1].live_s:.1f} s")
        return deaths, streaming.finish()


def main() -> None:
    """Kill, wait, count, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deaths")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--rate", type=float, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    console = new_console()
    with services() as (kafka, cassandra):
        deaths, outcome = survived(DEATHS, given.times, given.rate, given.seed, kafka, cassandra, console.print)
    console.print(table_of(deaths), *sentences(outcome), sep="\n")


if __name__ == "__main__":
    main()
