"""Which client library sends."""

import pytest

from cryptoflow.errors import ConfigError
from cryptoflow.kafka_io import delivery as delivery_module
from cryptoflow.kafka_io.delivery import delivery
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.settings import KafkaSettings


@pytest.mark.parametrize(
    ("wanted", "installed", "taken"),
    [
        ("auto", True, "ConfluentDelivery"),
        ("auto", False, "KafkaPythonDelivery"),
        ("kafka-python", True, "KafkaPythonDelivery"),
        ("confluent-kafka", True, "ConfluentDelivery"),
    ],
)
def test_the_faster_client_is_taken_where_it_is_installed_unless_one_is_named(
    wanted: str, installed: bool, taken: str, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "find_spec", lambda name: object() if installed else None)
    make_topics(settings)
    made = delivery(settings.model_copy(update={"producer": wanted}), 100)
    made.close(force=False)
    assert type(made).__name__ == taken


def test_a_client_that_is_named_and_not_installed_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"KAFKA_PRODUCER is confluent-kafka.*pip install 'cryptoflow\[fast\]'"):
        delivery(KafkaSettings(producer="confluent-kafka"), 100)
