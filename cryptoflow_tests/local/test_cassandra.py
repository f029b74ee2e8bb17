"""The node's config, and its login where one is asked for."""

from pathlib import Path

import pytest

from cryptoflow.errors import CassandraLoginError, PrerequisiteError
from cryptoflow.local.cassandra import DEFAULT_USER, cassandra_service, cassandra_yaml, java_options
from cryptoflow.local.java import Java
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import Layout
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import connect
from cryptoflow_tests.running import running


def test_it_listens_on_this_machine_only() -> None:
    config = cassandra_yaml("127.0.0.2", 9042, 7000, Path("/data"), authenticate=False)
    assert (config["rpc_address"], config["native_transport_port"]) == ("127.0.0.2", 9042)
    assert (config["listen_address"], config["storage_port"]) == ("127.0.0.1", 7000)
    assert config["seed_provider"][0]["parameters"] == [{"seeds": "127.0.0.1:7000"}]


def test_all_its_data_is_in_one_folder() -> None:
    config = cassandra_yaml("127.0.0.2", 9042, 7000, Path("/data"), authenticate=False)
    folders = [value for key, value in config.items() if key.endswith(("_directory", "_directories"))]
    assert len(folders) == 5
    assert all(str(folder).strip("[']").startswith("/data/") for folder in folders)


@pytest.mark.parametrize(("version", "allowed"), [(17, False), (21, True)])
def test_java_after_17_must_be_told_to_allow_a_security_manager(version: int, allowed: bool) -> None:
    options = java_options(version, Path("/cassandra.yaml"), Layout(Path("/service"), Path("/jars")))
    assert ("-Djava.security.manager=allow" in options) is allowed


def test_a_java_without_security_manager_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="does not run on Java 25"):
        cassandra_service(CassandraSettings()).prepare(Java(Path("java"), 25), Layout(tmp_path, tmp_path))


@pytest.mark.parametrize(
    ("settings", "external"),
    [
        (CassandraSettings(), False),
        (CassandraSettings(contact_points="cassandra.example"), True),
        (CassandraSettings(contact_points="127.0.0.1,10.0.0.1"), True),
        (CassandraSettings(ca_file="ca.pem"), True),
    ],
)
def test_what_is_not_a_plain_node_of_this_machine_is_external(settings: CassandraSettings, external: bool) -> None:
    assert cassandra_service(settings).external is external


def test_with_logins_only_the_right_password_opens_a_session(tmp_path: Path, jars_home: Path) -> None:
    settings = CassandraSettings(port=free_port(), username=DEFAULT_USER, password=DEFAULT_USER)
    service = cassandra_service(settings, authenticate=True)
    with running(tmp_path, jars_home, service):
        with connect(settings) as session:
            assert session.execute("SELECT now() FROM system.local").one()
        for wrong in ({"password": "wrong"}, {"username": None}):
            with pytest.raises(CassandraLoginError), connect(settings.model_copy(update=wrong)):
                pass
