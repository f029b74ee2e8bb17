"""Jars come here whole and as locked, or not at all."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pyspark
import pytest

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local import jars


@pytest.fixture
def installed(jars_home: Path, tmp_path: Path) -> Path:
    """A home of the test's own, with the Spark set in place."""
    jars.install(jars_home, ["spark"])
    shutil.copytree(jars.jar_folder(jars_home, "spark"), jars.jar_folder(tmp_path, "spark"))
    return tmp_path


def test_two_fetches_at_once_give_one_whole_set(tmp_path: Path) -> None:
    shares: list[float] = []
    with ThreadPoolExecutor() as pool:
        fetches = [
            pool.submit(jars.install, tmp_path, ["spark"], lambda _, share: shares.append(share)) for _ in range(2)
        ]
    for fetch in fetches:
        fetch.result()
    jars.verify(jars.jar_folder(tmp_path, "spark"), jars.locked_jars("spark"))
    assert jars.is_installed(tmp_path, "spark")
    assert all(jar.is_file() for jar in jars.spark_jars(tmp_path))
    assert shares.count(1.0) == 2
    assert all(0 < share <= 1 for share in shares)
    assert [path.name for path in (tmp_path / "jars").iterdir() if path.is_dir()] == ["spark"]


def test_no_way_to_the_registry_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1")
    with pytest.raises(PrerequisiteError, match=r"jars of spark could not be fetched .*`cryptoflow services jars`"):
        jars.install(tmp_path, ["spark"])
    assert not jars.is_installed(tmp_path, "spark")


def test_a_tampered_jar_is_refused(installed: Path) -> None:
    jar = jars.spark_jars(installed)[0]
    jar.write_bytes(jar.read_bytes() + b"!")
    with pytest.raises(PrerequisiteError, match=re.escape(jar.name)):
        jars.install(installed, ["spark"], rehash=True)


def test_a_jar_that_is_not_in_the_lock_is_refused(installed: Path) -> None:
    (jars.jar_folder(installed, "spark") / "other-1.0.jar").write_bytes(b"")
    with pytest.raises(PrerequisiteError, match=r"other-1\.0\.jar"):
        jars.install(installed, ["spark"], rehash=True)


def test_a_set_that_lacks_a_jar_is_not_installed(installed: Path) -> None:
    assert jars.is_installed(installed, "spark")
    jars.spark_jars(installed)[0].unlink()
    assert not jars.is_installed(installed, "spark")


def test_a_set_of_another_lock_is_not_installed(installed: Path) -> None:
    marker = jars.jar_folder(installed, "spark") / ".complete"
    marker.write_text(marker.read_text().replace("a", "b"))
    assert not jars.is_installed(installed, "spark")


@pytest.mark.parametrize("name", jars.SETS)
def test_the_lock_has_the_modules_asked_for(name: str) -> None:
    asked = {f"{module}-{revision}.jar" for _, module, revision in jars.SETS[name].modules}
    assert asked <= jars.locked_jars(name).keys()


def test_spark_is_given_nothing_that_it_has_already() -> None:
    shipped = {jars.artifact(jar.name) for jar in Path(pyspark.__file__).parent.glob("jars/*.jar")}
    assert not {jars.artifact(jar) for jar in jars.locked_jars("spark")} & shipped


def test_the_lock_file_is_written_as_it_is_read(tmp_path: Path) -> None:
    sets = {name: jars.locked_paths(name) for name in jars.SETS}
    lock = tmp_path / "jars.lock"
    lock.write_text("".join(jars.lock_text(sets[name], f"{name}/") for name in sorted(sets)))
    assert lock.read_text() == jars.LOCK_FILE.read_text()
    assert {name: jars.locked_paths(name, lock) for name in jars.SETS} == sets


@pytest.mark.parametrize("name", jars.SETS)
def test_no_two_jars_of_a_set_have_the_same_name(name: str) -> None:
    assert len(jars.locked_jars(name)) == len(jars.locked_paths(name)) > 0


def test_a_jar_is_asked_for_by_all_that_its_place_tells() -> None:
    asked = ElementTree.fromstring(
        jars.locked_ivy_xml(
            ["io.netty/epoll/4.1.Final/epoll-4.1.Final-linux.jar", "io.netty/epoll/4.1.Final/epoll-4.1.Final.jar"]
        )
    )
    [dependency] = asked.iter("dependency")
    assert [dependency.get(key) for key in ("org", "name", "rev")] == ["io.netty", "epoll", "4.1.Final"]
    classifier = "{http://ant.apache.org/ivy/maven}classifier"
    artifacts = [(artifact.get("name"), artifact.get(classifier)) for artifact in dependency.iter("artifact")]
    assert artifacts == [("epoll", "linux"), ("epoll", None)]


@pytest.mark.parametrize(
    ("jar", "artifact"),
    [
        ("jsr305-3.0.0.jar", "jsr305"),
        ("javax.inject-1.jar", "javax.inject"),
        ("spark-sql-kafka-0-10_2.13-4.2.0.jar", "spark-sql-kafka-0-10_2.13"),
        ("jffi-1.3.11-native.jar", "jffi"),
    ],
)
def test_the_artifact_is_the_name_without_version(jar: str, artifact: str) -> None:
    assert jars.artifact(jar) == artifact
