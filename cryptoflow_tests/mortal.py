"""A broker that a test may kill, stop and start again."""

from pathlib import Path

import psutil

from cryptoflow.local.kafka import kafka_service
from cryptoflow.local.processes import Process, free_port, stop
from cryptoflow.settings import KafkaSettings
from cryptoflow_tests.running import up


class MortalKafka:
    """A broker of a test's own, to be killed and started again."""

    def __init__(self, home: Path, jars_home: Path) -> None:
        self.server = f"127.0.0.1:{free_port()}"
        self._home, self._jars_home = home, jars_home
        self._processes: dict[str, Process] = {}

    def start(self) -> None:
        service = kafka_service(KafkaSettings(bootstrap_servers=self.server))
        self._processes |= up(self._home, self._jars_home, service)

    def kill(self) -> None:
        for process in self._processes.values():
            stop(process, timeout_s=0)

    def stand_still(self) -> None:
        for process in self._processes.values():
            psutil.Process(process.pid).suspend()
