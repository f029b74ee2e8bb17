"""What the runs of a home tell, as samples: the statuses and leases that their parts left."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cryptoflow.exporter.families import Sample
from cryptoflow.runtime import lease
from cryptoflow.runtime.metrics import HomeMetrics, RunMetrics
from cryptoflow.runtime.status import read_statuses

ENDED_S = 300.0
"""For so long after its end a run is still told of: one that is shorter than the time between two scrapes is seen."""

KEPT_ALIVE = ("ingest_trades", "aggregate_trades")
"""The parts that are told of also while none works."""


def of_runs(home: Path) -> Iterator[Sample]:
    """What the parts of live runs tell, and of those that have just ended."""
    working = {part: RunMetrics() for part in KEPT_ALIVE}
    for run in _recent_runs(home):
        for part, stalled in lease.working_parts(home, run).items():
            known = working.get(part, RunMetrics())
            working[part] = RunMetrics(live=known.live + 1, stalled=known.stalled + stalled)
        for part, status in read_statuses(home, run).items():
            if status.metrics is not None:
                yield Sample(status.metrics, (run, part))
    for part, metrics in working.items():
        yield Sample(metrics, (part,))


def _recent_runs(home: Path) -> list[str]:
    now_s = time.time()
    runs = sorted(path.name for path in home.glob("runs/*"))
    return [run for run in runs if lease.alive(home, run) or now_s - lease.ended_s(home, run) < ENDED_S]


def of_home(home: Path) -> Sample:
    """The disk that the home is on."""
    disk = shutil.disk_usage(home)
    return Sample(HomeMetrics(disk_free_bytes=disk.free, disk_size_bytes=disk.total))
