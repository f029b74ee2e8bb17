"""An environment beside cryptoflow's own: Flink, whose dependencies clash with ours, and librdkafka to fill topics.

Made where it is missing, in HOME/bench; the connector's jar comes by Ivy, as cryptoflow's own jars do.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local import jars
from cryptoflow.local.java import ONE_COMPILER, find_java

FLINK = "apache-flink==2.3.0"
LIBRDKAFKA = "confluent-kafka==2.16.1"
PACKAGES = (FLINK, LIBRDKAFKA)

CONNECTOR = "org.apache.flink/flink-sql-connector-kafka/5.0.0-2.2/flink-sql-connector-kafka-5.0.0-2.2.jar"
"""The newest published; made for Flink 2.2, and works with 2.3."""

CONNECTOR_SHA256 = "5605c691d11a501382c383fecba37a7a552467da5ab7ba904ef5d6f3d62c5616"

ROOT = Path(__file__).parent.parent


def flink_python(home: Path) -> Path:
    """The Python of the environment, which is made first where it is missing or has other versions.

    Raises:
        PrerequisiteError: the packages can't be had.
    """
    folder = home / "bench" / "flink-venv"
    marker = folder / ".complete"
    if not marker.is_file() or marker.read_text().split() != list(PACKAGES):
        _make(folder)
        marker.write_text("\n".join(PACKAGES))
    return folder / "bin" / "python"


def _make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _require([sys.executable, "-m", "venv", str(folder)])
    python = str(folder / "bin" / "python")
    uv = Path(sys.executable).with_name("uv")
    # uv takes a third of pip's time; pip knows the mirrors of a pip.conf, which uv does not
    with_uv = [str(uv), "pip", "install", "--quiet", "--python", python, *PACKAGES]
    if not uv.exists() or subprocess.run(with_uv, check=False).returncode:
        _require([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES])


def _require(command: list[str]) -> None:
    if subprocess.run(command, check=False).returncode:
        raise PrerequisiteError(
            f"{' and '.join(PACKAGES)} could not be installed: see above; Flink has wheels for some versions of Python "
            "only (3.11 is one)."
        )


def connector_jar(home: Path) -> Path:
    """Flink's Kafka connector, fetched first where it is missing.

    Raises:
        PrerequisiteError: it can't be fetched, or is another than it should be.
    """
    folder = home / "bench" / "jars"
    jar = folder / Path(CONNECTOR).name
    if not jar.is_file():
        _fetch(folder)
    if jars.hash_jars(folder) != {jar.name: CONNECTOR_SHA256}:
        raise PrerequisiteError(f"{folder} does not hold the connector of Flink that it should: delete it.")
    return jar


def _fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ivy.xml").write_text(jars.locked_ivy_xml([CONNECTOR]))
    (folder / "ivysettings.xml").write_text(jars.LOCKED_SETTINGS)
    ivy = [str(find_java().executable), ONE_COMPILER, "-cp", f"{_pyspark_jars()}/*", "org.apache.ivy.Main"]
    files = ["-ivy", str(folder / "ivy.xml"), "-settings", str(folder / "ivysettings.xml"), "-confs", "default"]
    found = ["-cache", str(folder / "cache"), "-types", "jar", "-retrieve", f"{folder}/[artifact]-[revision].[ext]"]
    _run_ivy([*ivy, *files, *found])
    shutil.rmtree(folder / "cache", ignore_errors=True)


def _run_ivy(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=jars.FETCH_TIMEOUT_S)
    if done.returncode:
        raise PrerequisiteError(f"The connector of Flink could not be fetched: {done.stdout[-500:]}")


def _pyspark_jars() -> Path:
    found = find_spec("pyspark")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "jars"


def program_env() -> dict[str, str]:
    """The environment variables of a program of the benchmarks in whatever environment: it finds this package."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
