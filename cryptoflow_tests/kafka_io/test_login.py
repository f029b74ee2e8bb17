"""Both clients against a broker that asks for a login, over TLS by a certificate of its own."""

import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cryptoflow.errors import KafkaUnreachableError
from cryptoflow.kafka_io import confluent, connection
from cryptoflow.kafka_io.confluent import ConfluentDelivery
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local import kafka as kafka_module
from cryptoflow.local.processes import free_port
from cryptoflow.model.trade import Trade
from cryptoflow.settings import KafkaSettings
from cryptoflow_tests.mortal import MortalKafka

PASSWORD = "it's a b=c; d"
STORE_PASSWORD = "of-the-key-store"
LOGIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"


def keytool(*arguments: str) -> None:
    store = ("-storepass", STORE_PASSWORD, "-alias", "broker")
    subprocess.run(["keytool", *arguments, *store], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, jars_home: Path) -> Iterator[KafkaSettings]:
    """The settings of such a broker; its topics are not made yet."""
    folder = tmp_path_factory.mktemp("secure")
    store, ca_file, port = folder / "broker.p12", folder / "ca.pem", free_port()
    name = ("-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1", "-keyalg", "EC", "-validity", "2")
    keytool("-genkeypair", "-keystore", str(store), "-storetype", "PKCS12", *name)
    keytool("-exportcert", "-rfc", "-keystore", str(store), "-file", str(ca_file))
    plain = kafka_module.server_properties

    def with_login(*arguments: Any) -> dict[str, str]:
        properties = plain(*arguments)
        properties["listeners"] += f",SASL_SSL://127.0.0.1:{port}"
        properties["advertised.listeners"] += f",SASL_SSL://127.0.0.1:{port}"
        properties["listener.security.protocol.map"] += ",SASL_SSL:SASL_SSL"
        return properties | {
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{LOGIN_MODULE} required user_me="{PASSWORD}";',
            "ssl.keystore.location": str(store),
            "ssl.keystore.password": STORE_PASSWORD,
        }

    broker = MortalKafka(folder, jars_home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_module, "server_properties", with_login)
        broker.start()
    yield KafkaSettings(
        bootstrap_servers=f"127.0.0.1:{port}",
        security_protocol="SASL_SSL",
        ca_file=str(ca_file),
        username="me",
        password=PASSWORD,
    )
    broker.kill()


@pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"])
def test_a_login_over_tls_carries_trades(
    secure: KafkaSettings, client: str, topic: str, trade: Callable[..., tuple[Trade, bytes]]
) -> None:
    settings = secure.model_copy(update={"producer": client, "topic": topic})
    make_topics(settings)
    with TradeProducer(settings) as producer:
        producer.trade(*trade(1))
        producer.flush()
        assert producer.acked == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # kafka-python leaves sockets to the garbage collector
@pytest.mark.parametrize("open_it", [TradeProducer, lambda settings: ConfluentDelivery(settings, 100)])
def test_a_wrong_password_is_one_sentence_that_does_not_hold_it(
    secure: KafkaSettings,
    open_it: Callable[[KafkaSettings], object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for module in (connection, confluent):
        monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 1)
    wrong = "not-the-password"
    started = time.monotonic()
    with (
        caplog.at_level(logging.INFO),  # below, kafka-python writes what it sends
        pytest.raises(KafkaUnreachableError, match=r"does not answer; .*check .*KAFKA_PASSWORD\.$") as caught,
    ):
        open_it(secure.model_copy(update={"password": wrong}))
    assert time.monotonic() - started < 10
    assert wrong not in str(caught.value) + caplog.text
