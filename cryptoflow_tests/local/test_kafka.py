"""The broker's config is what Java reads, and stays on this machine."""

import base64
import re
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.local.kafka import (
    cluster_id,
    host_and_port,
    kafka_service,
    properties_text,
    server_properties,
)
from cryptoflow.settings import KafkaSettings


def read_by_java(text: str) -> dict[str, str]:
    """java.util.Properties, as far as keys without escapes go."""
    properties = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        units = re.sub(r"\\(?:u([0-9a-f]{4})|(.))", lambda m: chr(int(m[1], 16)) if m[1] else m[2], value)
        properties[name] = units.encode("utf-16", "surrogatepass").decode("utf-16")
    return properties


@given(st.text(st.characters(min_codepoint=33, exclude_categories=["Cs"]), min_size=1))
def test_java_reads_a_path_of_any_characters(path: str) -> None:
    text = properties_text({"log.dirs": path})
    assert text.isascii()
    assert read_by_java(text) == {"log.dirs": path}


@given(st.uuids())
def test_a_cluster_id_is_16_bytes_and_no_option(unique: uuid.UUID) -> None:
    text = cluster_id(unique)
    assert len(base64.urlsafe_b64decode(text + "==")) == 16
    assert not text.startswith("-")


def test_it_listens_on_this_machine_only() -> None:
    properties = server_properties("127.0.0.2", 9092, 9093, Path("/data"))
    assert properties["listeners"] == "PLAINTEXT://127.0.0.2:9092,CONTROLLER://127.0.0.1:9093"
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.2:9092"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert properties["log.dirs"] == "/data"


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("127.0.0.1:9092", ("127.0.0.1", 9092)),
        ("kafka", ("kafka", 9092)),
        ("[::1]:9095", ("::1", 9095)),
    ],
)
def test_host_and_port(server: str, address: tuple[str, int]) -> None:
    assert host_and_port(server) == address


@pytest.mark.parametrize(
    ("settings", "external"),
    [
        (KafkaSettings(), False),
        (KafkaSettings(bootstrap_servers="localhost:19092"), False),
        (KafkaSettings(bootstrap_servers="kafka.example:9092"), True),
        (KafkaSettings(bootstrap_servers="127.0.0.1:9092,127.0.0.1:9093"), True),
        (KafkaSettings(security_protocol="SSL"), True),
    ],
)
def test_what_is_not_a_plain_broker_of_this_machine_is_external(settings: KafkaSettings, external: bool) -> None:
    assert kafka_service(settings).external is external
