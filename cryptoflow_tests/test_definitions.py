"""What Dagster is given: every name, two steps at once, no secret, and files that Dagster takes."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.workspace.load import load_workspace_process_context_from_yaml_paths

from cryptoflow.definitions import defs
from cryptoflow.defs.jobs import STREAMING, kafka_mode, side_by_side
from cryptoflow.defs.resources import RESOURCES
from cryptoflow.runtime.stop import SHUTDOWN_S, Deadline

REPOSITORY = Path(__file__).resolve().parents[1]
MEETING_S = 30

SECRETS = {
    "CRYPTOCOMPARE_API_KEY": "api-key-that-nobody-may-see",
    "KAFKA_PASSWORD": "kafka-password-that-nobody-may-see",
    "CASSANDRA_PASSWORD": "cassandra-password-that-nobody-may-see",
}

SNAPSHOT = {
    "jobs": {
        "ingest": ["ingest_trades"],
        "aggregate": ["aggregate_trades"],
        "kafka_mode": ["aggregate_trades", "ingest_trades"],
        "memory_mode": ["aggregate_in_memory"],
        "repair": ["candle_hours"],
        "backfill_history": ["venue_history"],
        "clean_history": ["delete_old_runs"],
        "agrees_with_venue": ["candles_agrees_with_venue"],
        "data_checks": [
            "candles_agrees_with_venue",
            "candles_no_missing_minutes",
            "candles_no_suspect_hours",
            "closed_hour_matches_topic",
            "dead_letters_topic_dead_letter_share",
            "trades_topic_lag",
        ],
    },
    "sensors": {
        "keep_ingest_running": ["ingest"], "keep_aggregate_running": ["aggregate"], "end_dead_runs": [],
        "repair_marked_hours": ["repair"],
    },
    "schedules": {
        "timed_kafka_mode": "kafka_mode",
        "timed_memory_mode": "memory_mode",
        "hourly_data_checks": "data_checks",
        "daily_clean_history": "clean_history",
    },
    "assets": {
        "feed": [],
        "trades_topic": ["feed"],
        "dead_letters_topic": ["feed", "trades_topic"],
        "candles": ["trades_topic"],
        "trademsgs1minutewindow": ["trades_topic"],
        "candle_hours": ["trades_topic"],
        "venue_history": [],
    },
    "checks": [
        "candles:agrees_with_venue",
        "candles:closed_hour_matches_topic",
        "candles:no_missing_minutes",
        "candles:no_suspect_hours",
        "dead_letters_topic:dead_letter_share",
        "trademsgs1minutewindow:closed_hour_matches_topic",
        "trades_topic:lag",
    ],
    "pools": {
        "aggregate_trades": "spark", "aggregate_in_memory": "spark", "candle_hours": "repair",
        "venue_history": "history",
    },
    "resources": {
        "feed": [
            "source", "url", "coinbase_url", "coinbase_rest_url", "binance_url", "binance_rest_url", "kraken_url",
            "kraken_rest_url", "gemini_url", "gemini_rest_url", "subscriptions", "simulator_rate", "replay",
            "replay_speed", "reconnect_for_s", "fill_limit_s",
        ],
        "kafka": [
            "bootstrap_servers", "topic", "history_topic", "partitions", "replication", "retention_hours",
            "delivery_timeout_s", "producer", "security_protocol", "sasl_mechanism", "username", "feed",
        ],
        "spark": [
            "master", "trigger_s", "watermark_s", "max_ahead_s", "window_s", "shuffle_partitions", "max_batch_trades",
            "backlog_trades", "ui_port", "driver_memory",
        ],
        "cassandra": [
            "contact_points", "port", "keyspace", "replication", "datacenter", "ttl_s", "longer_windows", "username",
            "retry_for_s", "feed",
        ],
    },
}  # fmt: skip

OP_CONFIG = {name: {"timeout_s": 150.0} for name in ("ingest_trades", "aggregate_trades", "aggregate_in_memory")}

# Dagster makes its own definitions with a parameter of its own that is in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of")


@dg.op
def first(context: dg.OpExecutionContext) -> None:
    """Waits for the other op."""
    meet(context, "first", "second")


@dg.op
def second(context: dg.OpExecutionContext) -> None:
    """Waits for the other op."""
    meet(context, "second", "first")


@dg.job(executor_def=side_by_side)
def meeting() -> None:
    """Two ops that end only if both run at once."""
    first()
    second()


def meet(context: dg.OpExecutionContext, own: str, other: str) -> None:
    """Say that this op runs, and wait until the other does."""
    folder = Path(os.environ["CRYPTOFLOW_TEST_MEETING"])
    (folder / own).touch()
    deadline = Deadline(MEETING_S)
    while not (folder / other).exists():
        if deadline.passed:
            raise dg.Failure(f"{other} does not run beside {own}")
        threading.Event().wait(0.02)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance that other processes can open."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def our_jobs() -> list[dg.JobDefinition]:
    """The jobs without the one that Dagster makes itself, for checks that are executed one by one."""
    return [job for job in defs.get_repository_def().get_all_jobs() if not job.name.startswith("__")]


def names() -> dict[str, Any]:
    repository = defs.get_repository_def()
    jobs = our_jobs()
    resources: Mapping[str, Any] = RESOURCES
    specs = defs.resolve_all_asset_specs()
    ops: list[Any] = [node.definition for job in jobs for node in job.nodes]
    return {
        "jobs": {job.name: sorted(node.name for node in job.nodes) for job in jobs},
        "sensors": {sensor.name: [target.job_name for target in sensor.targets] for sensor in repository.sensor_defs},
        "schedules": {schedule.name: schedule.job_name for schedule in repository.schedule_defs},
        "assets": {
            spec.key.to_user_string(): sorted(dep.asset_key.to_user_string() for dep in spec.deps) for spec in specs
        },
        "checks": sorted(
            f"{key.asset_key.to_user_string()}:{key.name}" for key in repository.asset_graph.asset_check_keys
        ),
        "pools": {op.name: op.pool for op in ops if getattr(op, "pool", None)},
        "resources": {name: list(fields(resource)) for name, resource in resources.items()},
    }


def fields(resource: Any) -> Mapping[str, Any]:
    """The fields of a resource, also of one that a run config configures for others."""
    found: Mapping[str, Any] = getattr(resource, "resource_cls", type(resource)).model_fields
    return found


def python(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=os.environ | env, capture_output=True, text=True, check=False
    )


def test_the_names_are_the_promised_ones() -> None:
    assert names() == SNAPSHOT
    assert set(defs.resources or {}) == {"feed", "kafka", "spark", "cassandra"}


def test_every_definition_is_described() -> None:
    repository = defs.get_repository_def()
    described: list[Any] = [*our_jobs(), *repository.sensor_defs, *repository.schedule_defs]
    described += [node.definition for job in STREAMING for node in job.nodes]
    described += defs.resolve_all_asset_specs()
    assert [each.name for each in described if not each.description] == []


def test_every_asset_has_an_owner_and_every_column_that_is_shown_a_meaning() -> None:
    every = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert [name for name, spec in every.items() if not spec.owners] == []
    shown = {
        name: spec.metadata["dagster/column_schema"]
        for name, spec in every.items()
        if "dagster/column_schema" in spec.metadata
    }
    assert shown.keys() == {"candles", "trademsgs1minutewindow", "candle_hours"}
    assert {name: every[name].metadata["page"].value for name in shown} == dict.fromkeys(
        shown, "http://127.0.0.1:8050/"
    )
    for name in ("candles", "trademsgs1minutewindow"):
        assert [column.name for column in shown[name].columns if not column.description] == []


def test_the_ops_stream_for_the_promised_time_by_default() -> None:
    found = {
        node.name: node.definition.config_schema.default_value
        for job in STREAMING
        for node in job.nodes
        if isinstance(node.definition, dg.OpDefinition)
    }
    assert found == OP_CONFIG


@pytest.mark.parametrize("name", ["ingest", "aggregate"])
def test_the_jobs_that_are_kept_alive_have_no_end(name: str) -> None:
    config = defs.resolve_job_def(name).run_config
    assert config is not None
    assert config["ops"] == {f"{name}_trades": {"config": {"timeout_s": 0.0}}}


def test_only_housekeeping_and_repairs_run_before_a_user_turns_anything_on() -> None:
    repository = defs.get_repository_def()
    sensors = {each.name for each in repository.sensor_defs if each.default_status == dg.DefaultSensorStatus.RUNNING}
    schedules = {
        each.name for each in repository.schedule_defs if each.default_status == dg.DefaultScheduleStatus.RUNNING
    }
    assert (sensors, schedules) == ({"end_dead_runs", "repair_marked_hours"}, {"daily_clean_history"})


def test_the_two_steps_of_kafka_mode_run_at_once(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kafka_mode.executor_def is side_by_side
    monkeypatch.setenv("CRYPTOFLOW_TEST_MEETING", str(tmp_path))
    with dg.execute_job(dg.reconstructable(meeting), instance=instance) as result:
        assert result.success


def test_no_streaming_op_is_retried_by_dagster() -> None:
    nodes = [node for job in defs.get_repository_def().get_all_jobs() for node in job.nodes]
    definitions: list[Any] = [node.definition for node in nodes]
    assert [each.name for each in [*nodes, *definitions] if each.retry_policy] == []


@pytest.mark.parametrize("loaded", ["definitions", "cli"])
def test_definitions_and_command_load_without_a_warning_and_without_what_takes_long(loaded: str) -> None:
    program = (
        f"import sys; import cryptoflow.{loaded}; "
        "print([name for name in ('pyspark', 'kafka', 'cassandra', 'numpy', 'fastapi') if name in sys.modules])"
    )
    done = python("-W", "error", "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_dagster_finds_the_definitions_valid(tmp_path: Path) -> None:
    done = python(
        "-m", "dagster", "definitions", "validate", "-m", "cryptoflow.definitions", DAGSTER_HOME=str(tmp_path)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_dagster_is_told_of_the_definitions_holds_no_secret() -> None:
    program = (
        "from dagster._core.remote_representation.external_data import RepositorySnap; "
        "from dagster import serialize_value; "
        "from cryptoflow.definitions import defs; "
        "print(serialize_value(RepositorySnap.from_def(defs.get_repository_def())))"
    )
    done = python("-c", program, **SECRETS)
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert "keep_ingest_running" in told
    assert "CASSANDRA_USERNAME" in told
    assert [name for name, secret in SECRETS.items() if secret in told] == []
    assert json.loads(told)


def test_the_workspace_loads_the_definitions(instance: dg.DagsterInstance) -> None:
    workspace = REPOSITORY / "workspace.yaml"
    with load_workspace_process_context_from_yaml_paths(instance, [str(workspace)]) as process_context:
        context = process_context.create_request_context()
        assert context.code_location_errors() == []
        [location] = context.code_locations
        [repository] = location.get_repositories().values()
        assert {job.name for job in repository.get_all_jobs()} >= set(names()["jobs"])


def test_dagster_takes_the_instances_settings(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        assert made.run_monitoring_enabled
        assert made.run_monitoring_poll_interval_seconds == 5
        assert not made.telemetry_enabled
        assert type(made.run_coordinator).__name__ == "QueuedRunCoordinator"


def test_a_slot_is_given_away_only_after_the_longest_drain() -> None:
    settings = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text())
    assert settings["run_monitoring"]["free_slots_after_run_end_seconds"] > SHUTDOWN_S


def test_no_block_of_pyproject_beats_the_workspace() -> None:
    assert not re.search(r"^\[tool\.dagster\]", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
