"""What runs leave in their home is told while they work, and for a while after: their ends are seen, too."""

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from cryptoflow.exporter.families import Sample, families
from cryptoflow.exporter.runs import ENDED_S, of_home, of_runs
from cryptoflow.runtime.lease import lease
from cryptoflow.runtime.metrics import IngestMetrics, RepairMetrics, RunMetrics
from cryptoflow.runtime.status import PartStatus, write_status
from cryptoflow_tests.prometheus import promtool, registry_of

IDLE = [Sample(RunMetrics(), ("ingest_trades",)), Sample(RunMetrics(), ("aggregate_trades",))]


def test_where_nothing_runs_the_kept_parts_are_told_as_missing(tmp_path: Path) -> None:
    assert list(of_runs(tmp_path)) == IDLE


def test_a_live_run_is_told_and_a_second_of_the_same_part(tmp_path: Path) -> None:
    for run in ("one", "two"):
        write_status(tmp_path, run, "ingest_trades", PartStatus(IngestMetrics(acknowledged=3)))
    with lease(tmp_path, "one", "ingest_trades"), lease(tmp_path, "two", "ingest_trades"):
        found = list(of_runs(tmp_path))
    told = [Sample(IngestMetrics(acknowledged=3), (run, "ingest_trades")) for run in ("one", "two")]
    assert found == [*told, Sample(RunMetrics(live=2), ("ingest_trades",)), IDLE[1]]


def test_a_part_that_breaks_its_promise_is_told_as_stalled(tmp_path: Path) -> None:
    with lease(tmp_path, "one", "aggregate_trades") as held:
        held.promise(-1)
        assert Sample(RunMetrics(live=1, stalled=1), ("aggregate_trades",)) in list(of_runs(tmp_path))


def test_a_run_that_was_shorter_than_the_time_between_two_scrapes_is_told(tmp_path: Path) -> None:
    with lease(tmp_path, "one", "repair"):
        write_status(tmp_path, "one", "repair", PartStatus(RepairMetrics(hours=2)))
    told = Sample(RepairMetrics(hours=2), ("one", "repair"))
    assert list(of_runs(tmp_path)) == [told, *IDLE]
    [path] = tmp_path.glob("runs/one/*.lease")
    long_ago_s = time.time() - ENDED_S - 1
    os.utime(path, (long_ago_s, long_ago_s))
    assert list(of_runs(tmp_path)) == IDLE


def test_the_disk_is_the_homes(tmp_path: Path) -> None:
    figures = of_home(tmp_path).metrics.figures()
    assert 0 < figures["disk_free_bytes"] < figures["disk_size_bytes"]


def test_prometheus_finds_no_fault_with_the_names_and_texts(tmp_path: Path) -> None:
    with lease(tmp_path, "one", "ingest_trades"):
        write_status(tmp_path, "one", "ingest_trades", PartStatus(IngestMetrics(acknowledged=3)))
        found: CollectorRegistry = registry_of(families([*of_runs(tmp_path), of_home(tmp_path)]))
    promtool("check", "metrics", stdin=generate_latest(found))
