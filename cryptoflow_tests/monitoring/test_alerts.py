"""Prometheus takes its configuration; each alert fires when it must, and names only metrics that are exported."""

import re
from pathlib import Path

import yaml

from cryptoflow.exporter.families import exported
from cryptoflow.runtime.metrics import EXPORTED
from cryptoflow_tests.prometheus import promtool

FOLDER = Path(__file__).resolve().parents[2] / "docker" / "prometheus"
RULES, CASES = FOLDER / "alerts.yml", FOLDER / "alerts_test.yml"


def alerts() -> set[str]:
    """The names of all alerts."""
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for rule in group["rules"]}


def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", str(FOLDER / "prometheus.yml"))
    promtool("check", "rules", "--lint-fatal", str(RULES))


def test_each_alert_fires_when_it_must_and_only_then() -> None:
    promtool("test", "rules", str(CASES))


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    asked = [each for case in yaml.safe_load(CASES.read_text())["tests"] for each in case["alert_rule_test"]]
    assert {each["alertname"] for each in asked if each["exp_alerts"]} == alerts()
    assert {each["alertname"] for each in asked if not each["exp_alerts"]} == alerts()


def test_the_alerts_name_only_metrics_that_are_exported() -> None:
    named = set(re.findall(r"cryptoflow_\w+", f"{RULES.read_text()}{CASES.read_text()}"))
    assert named <= {metric.name for kind in EXPORTED for metric in exported(kind)}
