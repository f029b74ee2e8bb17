"""The containers: files by the Compose schema, versions and variables of the code, and each only what it needs."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from cryptoflow.local.jars import SETS
from cryptoflow.runtime.stop import SHUTDOWN_S
from cryptoflow.settings import settings_of
from cryptoflow_tests.test_documents import SETTINGS_PAGE, STORAGE, STORAGE_VARIABLES, check_command, variables

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "docker"
SCHEMA = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"

OURS = {"pipeline", "webserver", "daemon", "chart", "metrics"}
"""Services whose image is cryptoflow's."""

SECRETS = {
    "cryptocompare_api_key": {"pipeline"},
    "postgres_password": {"postgres", "pipeline", "webserver", "daemon"},
    "web_token": {"chart"},
    "grafana_password": {"grafana"},
}
"""Who uses which."""

NO_PASSWORD = re.compile(r"(?i)(password|token|api_key)$")

every_file = pytest.mark.parametrize("name", ["compose.yaml", "compose.small.yaml", "stores.yaml"])
both = pytest.mark.parametrize("name", ["compose.yaml", "compose.small.yaml"])


@cache
def loaded(name: str) -> Any:
    """A file as it stands."""
    return yaml.safe_load((FOLDER / name).read_text())


def services(name: str = "compose.yaml") -> dict[str, Any]:
    """The services of a file, with what they extend."""
    return {service: _extended(given) for service, given in loaded(name)["services"].items()}


def _extended(given: dict[str, Any]) -> dict[str, Any]:
    if "extends" not in given:
        return given
    base = loaded(given["extends"]["file"])["services"][given["extends"]["service"]]
    environment = {**base.get("environment", {}), **given.get("environment", {})}
    return {**base, **given, "environment": environment}


def seconds(duration: str) -> int:
    """Of a duration such as 2m or 90s."""
    return int(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def entered(*command: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """A command by way of the image's entrypoint."""
    path = {"PATH": os.environ["PATH"]}
    script = FOLDER / "entrypoint.sh"
    return subprocess.run([script, *command], env=path | env, capture_output=True, text=True, check=False)


@every_file
def test_compose_knows_all_that_stands_in_the_file(name: str) -> None:
    jsonschema.validate(loaded(name), json.loads(SCHEMA.read_text()))


def test_the_schema_finds_a_fault() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"kafka": {"imagee": "x"}}}, json.loads(SCHEMA.read_text()))


@both
def test_each_service_has_a_limit_a_health_check_and_no_root(name: str) -> None:
    for service, given in services(name).items():
        assert given["user"] not in ("root", "0"), service
        assert given["cap_drop"] == ["ALL"], service
        assert given["security_opt"] == ["no-new-privileges:true"], service
        assert given["healthcheck"]["test"], service
        assert given["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, service
        assert given["logging"]["options"]["max-size"], service


@both
def test_each_image_is_built_here_or_has_an_exact_version(name: str) -> None:
    built = {given["image"] for given in services(name).values() if "build" in given}
    others = {given["image"] for given in services(name).values()} - built
    assert all(re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", image) for image in others), others
    for dockerfile in FOLDER.glob("*Dockerfile"):
        assert re.search(r"^FROM \w+:\d+\.\d+\.\d+", dockerfile.read_text(), re.MULTILINE)


@both
def test_all_ports_are_this_machines_own(name: str) -> None:
    ports = [port for given in services(name).values() for port in given.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_a_port_can_be_reached_only_over_a_network_that_is_not_internal() -> None:
    networks = loaded("compose.yaml")["networks"]
    open_ones = {name for name, given in networks.items() if not (given or {}).get("internal")}
    for service, given in services().items():
        assert bool(given.get("ports")) == bool(open_ones & set(given["networks"])), service


def test_the_small_one_is_where_cryptoflow_looks_by_default() -> None:
    small = services("compose.small.yaml")
    assert small.keys() == {"kafka", "cassandra"}
    assert small["kafka"]["ports"] == ["127.0.0.1:9092:9092"]
    assert small["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:9092"
    assert small["cassandra"]["ports"] == ["127.0.0.1:9042:9042"]


def test_a_secret_reaches_only_those_who_use_it() -> None:
    given = services()
    assert loaded("compose.yaml")["secrets"].keys() == SECRETS.keys()
    for secret, users in SECRETS.items():
        assert {name for name, each in given.items() if secret in each.get("secrets", [])} == users
        told = {name for name, each in given.items() if f"/run/secrets/{secret}" in str(each.get("environment"))}
        assert told == users


def test_no_secret_stands_in_a_variable() -> None:
    for service, given in services().items():
        for name in given.get("environment", {}):
            assert not NO_PASSWORD.search(name), f"{service}: {name}"


def test_secrets_come_out_of_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k$e y\n")
    env = {"CRYPTOCOMPARE_API_KEY_FILE": str(tmp_path / "key"), "KAFKA_CA_FILE": "/ca.pem"}
    show = 'printf "%s|%s|%s" "$CRYPTOCOMPARE_API_KEY" "${CRYPTOCOMPARE_API_KEY_FILE:-}" "$KAFKA_CA_FILE"'
    assert entered("sh", "-c", show, **env).stdout == "k$e y||/ca.pem"
    missing = entered("true", CRYPTOCOMPARE_API_KEY_FILE=str(tmp_path / "none"))
    assert missing.returncode != 0


def test_every_secret_is_made_once_and_the_folder_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = []
    for _ in range(2):
        subprocess.run([FOLDER / "make-secrets.sh", str(folder)], check=True)
        made.append({path.name: path.read_text() for path in folder.iterdir()})
    assert made[0] == made[1]
    assert made[0].keys() == SECRETS.keys()
    assert made[0].pop("cryptocompare_api_key") == ""
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in made[0].values())
    assert len(set(made[0].values())) == len(made[0])
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_container_that_drains_is_given_the_time_for_it() -> None:
    assert seconds(services()["pipeline"]["stop_grace_period"]) > SHUTDOWN_S


def test_the_containers_have_the_versions_of_the_jars() -> None:
    kafka, cassandra = (SETS[name].modules[0][2] for name in ("kafka", "cassandra"))
    assert services()["kafka"]["image"] == f"apache/kafka:{kafka}"
    assert f"FROM cassandra:{cassandra}\n" in (FOLDER / "cassandra.Dockerfile").read_text()


def test_the_containers_get_only_variables_that_exist() -> None:
    assert {name for name, given in services().items() if given["image"] == "cryptoflow"} == OURS
    given = {variable for name in OURS for variable in services()[name]["environment"]}
    assert {variable.removesuffix("_FILE") for variable in given} <= variables() | STORAGE_VARIABLES


def test_all_who_look_at_the_stores_know_what_names_the_topic_and_the_keyspace() -> None:
    deciding = ("CRYPTOFLOW_SOURCE", "KAFKA_TOPIC", "CASSANDRA_KEYSPACE")
    told = [[services()[name]["environment"][variable] for variable in deciding] for name in OURS & _in("stores")]
    assert len(told) == 3
    assert all(
        each == ["${CRYPTOFLOW_SOURCE:-simulator}", "${KAFKA_TOPIC:-}", "${CASSANDRA_KEYSPACE:-}"] for each in told
    )


def _in(network: str) -> set[str]:
    return {name for name, given in services().items() if network in given["networks"]}


def test_each_network_has_only_those_who_talk_to_each_other() -> None:
    assert _in("dagster") == {"postgres", "pipeline", "webserver", "daemon"}
    assert _in("stores") == {"kafka", "cassandra", "pipeline", "chart", "metrics", "grafana"}
    assert _in("monitoring") == {"metrics", "prometheus", "grafana"}


def test_every_command_of_the_containers_exists() -> None:
    for name in OURS:
        program, *arguments = services()[name]["command"].split()
        if program == "cryptoflow":
            check_command(arguments)


def test_the_spark_ui_can_be_reached_from_outside_of_its_container() -> None:
    pipeline = services()["pipeline"]
    assert pipeline["environment"]["SPARK_LOCAL_IP"] == "0.0.0.0"
    assert "127.0.0.1:4000:4000" in pipeline["ports"]


def test_the_containers_schedules_and_history_can_be_set_from_outside() -> None:
    given = services()["pipeline"]["environment"]  # definitions are loaded there, and nowhere else
    wanted = {env for model in SETTINGS_PAGE["AUTOMATION"] for _, _, env in settings_of(model)}
    assert {env: given.get(env) for env in wanted} == {env: f"${{{env}:-}}" for env in wanted}


def test_the_containers_database_is_the_one_that_dagster_is_told(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((REPOSITORY / "dagster.yaml").read_text() + STORAGE.read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    [(kind, told)] = config["storage"].items()
    assert (kind, told["postgres_db"].pop("scheme")) == ("postgres", "postgresql+psycopg2")
    database = services()["postgres"]["environment"]
    for name in ("pipeline", "webserver", "daemon"):
        given = services()[name]["environment"]
        values = {field: given.get(value["env"]) for field, value in told["postgres_db"].items()}
        assert values == {
            "hostname": "postgres",
            "db_name": database["POSTGRES_DB"],
            "username": database["POSTGRES_USER"],
            "password": None,
        }
        assert given["DAGSTER_POSTGRES_PASSWORD_FILE"] == database["POSTGRES_PASSWORD_FILE"]


def test_prometheus_scrapes_the_exporter_and_grafana_asks_what_is_there() -> None:
    scraped = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert [config["static_configs"] for config in scraped] == [[{"targets": ["metrics:9464"]}]]
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/cryptoflow.yaml").read_text())["datasources"]
    assert {re.sub(r"^http://|:\d+$", "", source["url"]) for source in sources} <= services().keys()
    [provider] = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/cryptoflow.yaml").read_text())["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services()["grafana"]["volumes"]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*Dockerfile")), ids=lambda file: file.name)
def test_an_image_holds_no_more_than_it_needs_and_nothing_that_nobody_checked(file: Path) -> None:
    steps = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", file.read_text(), re.MULTILINE)
    for step, arguments in steps:
        assert step not in ("ADD", "MAINTAINER"), arguments
        assert not (step in ("ENV", "ARG") and re.search(r"(?i)password|token|key", arguments)), arguments
        assert step not in ("CMD", "ENTRYPOINT") or arguments.startswith("["), "a shell would keep signals from it"
        if "apt-get install" in arguments:
            assert "--no-install-recommends" in arguments
            assert "rm -rf /var/lib/apt/lists/*" in arguments
        for install in re.findall(r"pip install [^&\n]*", arguments):
            assert "--no-cache-dir" in install
            assert "--require-hashes" in install or "--no-deps" in install


def test_our_image_runs_as_an_ordinary_user_whoever_starts_it() -> None:
    users = re.findall(r"^USER (\w+)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert users[-1] == services()["pipeline"]["user"] == "cryptoflow"


def test_everything_the_image_copies_is_there() -> None:
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?:--\S+ )?(.*) \S+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE):
        for name in line.split():
            assert (REPOSITORY / name).exists(), name
            assert f"!{name}" in allowed, name


def test_everything_that_is_mounted_is_there() -> None:
    for given in services().values():
        for volume in given.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (FOLDER / source).exists(), source
