"""The jars of Kafka, Cassandra and Spark's Kafka connector: their versions, and how they come here.

Apache Ivy, which pyspark ships, fetches them. `jars.lock` beside this file holds the sha256 of each and where it
comes from (`sha256  set/organisation/module/revision/name.jar`); `relock` has Ivy find what a set needs, and writes
it. So a set is fetched without reading a single description of a module, and lands in HOME/jars/SET, whole or not at
all.
"""

import hashlib
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import quoteattr

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local.java import ONE_COMPILER, find_java
from cryptoflow.runtime.locks import exclusive

LOCK_FILE = Path(__file__).with_name("jars.lock")
FETCH_TIMEOUT_S = 900.0
"""A set takes 5 to 30 s, to be found anew 10 to 80; a network that drops packets would keep Ivy for ever."""

PLACED = "[organisation]/[module]/[revision]/[artifact]-[revision](-[classifier]).[ext]"
"""Ivy's pattern of a path in `jars.lock`, below the set."""

LOCKED_SETTINGS = """\
<ivysettings>
  <settings defaultResolver="public"/>
  <resolvers><ibiblio name="public" m2compatible="true" usepoms="false" checksums=""/></resolvers>
</ivysettings>
"""
"""Ivy's settings where all is known: no descriptions of modules, and no checksums beside our own."""

_MARKER = ".complete"
_PYSPARK = find_spec("pyspark")
assert _PYSPARK is not None and _PYSPARK.origin is not None  # noqa: PT018
_PYSPARK_JARS = Path(_PYSPARK.origin).parent / "jars"
"""Found without importing pyspark, which every command would wait for."""

Progress = Callable[[str, float], None]
"""Called with a set's name and the share of it that is done, from 0 to 1; from the threads that fetch."""


@dataclass(frozen=True)
class JarSet:
    """Modules ((organisation, name, revision) each), fetched with all that they need."""

    modules: tuple[tuple[str, str, str], ...]


SETS: Mapping[str, JarSet] = {
    # slf4j-simple: Kafka's jars bring no logger, and without one a broker that fails says nothing.
    "kafka": JarSet((("org.apache.kafka", "kafka_2.13", "4.4.0"), ("org.slf4j", "slf4j-simple", "1.7.36"))),
    "cassandra": JarSet((("org.apache.cassandra", "cassandra-all", "5.0.9"),)),
    # 4.2.0 is the newest published (4.2.1 and 4.3.0 do not resolve) and works with pyspark 4.3.0: source,
    # sink, real-time mode. Take 4.3.x when it appears.
    "spark": JarSet((("org.apache.spark", "spark-sql-kafka-0-10_2.13", "4.2.0"),)),
}


def install(
    home: Path, names: Iterable[str] = tuple(SETS), progress: Progress | None = None, rehash: bool = False
) -> None:
    """Have these sets in HOME/jars, fetched side by side where missing; `rehash` checks again what is there.

    Raises:
        PrerequisiteError: no Java, no network, a registry that refuses, or a jar that is not the locked one.
    """
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: _install(home, name, progress or _silent, rehash), names))


def is_installed(home: Path, name: str) -> bool:
    """Whether the whole set is there in the locked versions (by marker and file names: nothing is hashed)."""
    folder, locked = jar_folder(home, name), locked_jars(name)
    marker = folder / _MARKER
    return (
        marker.is_file() and marker.read_text() == lock_text(locked) and all((folder / jar).is_file() for jar in locked)
    )


def jar_folder(home: Path, name: str) -> Path:
    """Where the set lies."""
    return home / "jars" / name


def spark_jars(home: Path) -> list[Path]:
    """The jars that Spark needs beside its own to talk to Kafka; `install` them first."""
    return [jar_folder(home, "spark") / jar for jar in locked_jars("spark")]


def locked_paths(name: str, lock: Path = LOCK_FILE) -> dict[str, str]:
    """The sha256 of each jar of a set, by `organisation/module/revision/name.jar`, from the lock file."""
    lines = (line.split("  ", 1) for line in lock.read_text().splitlines())
    return {path.removeprefix(f"{name}/"): digest for digest, path in lines if path.startswith(f"{name}/")}


def locked_jars(name: str) -> dict[str, str]:
    """The sha256 of each jar (by file name) of a set, from the lock file."""
    return {Path(path).name: digest for path, digest in locked_paths(name).items()}


def lock_text(jars: Mapping[str, str], prefix: str = "") -> str:
    """The lock file's lines of these jars."""
    return "".join(f"{digest}  {prefix}{jar}\n" for jar, digest in sorted(jars.items()))


def hash_jars(folder: Path) -> dict[str, str]:
    """The sha256 of each jar below a folder, by its path from there."""
    return {str(path.relative_to(folder)): _sha256(path) for path in sorted(folder.rglob("*.jar"))}


def verify(folder: Path, locked: Mapping[str, str]) -> None:
    """Check that a folder holds exactly the locked jars.

    Raises:
        PrerequisiteError: a jar is missing, differs, or is not in the lock.
    """
    actual = hash_jars(folder)
    wrong = sorted(jar for jar in actual.keys() | locked.keys() if actual.get(jar) != locked.get(jar))
    if wrong:
        raise PrerequisiteError(
            f"The jars in {folder} are not the ones of {LOCK_FILE.name} ({', '.join(wrong[:3])}): they "
            "were changed or came from a wrong source; delete that folder and run `cryptoflow services jars`."
        )


def relock(home: Path, lock: Path = LOCK_FILE) -> None:
    """Write the lock file anew from what Ivy finds for `SETS`: to be done after changing a version."""
    text = ""
    for name in sorted(SETS):
        found = home / "jars" / f".{name}.relock"
        _download(found, name, ivy_xml(SETS[name], _shipped(name)), PLACED, _silent)
        text += lock_text(hash_jars(found), f"{name}/")
        shutil.rmtree(found)
    lock.write_text(text)


def _install(home: Path, name: str, progress: Progress, rehash: bool) -> None:
    if is_installed(home, name) and not rehash:
        return progress(name, 1.0)
    with exclusive(home / "jars" / f".{name}.lock"):
        if not is_installed(home, name):
            _fetch(home, name, progress)
        elif rehash:
            verify(jar_folder(home, name), locked_jars(name))
    return progress(name, 1.0)


def _fetch(home: Path, name: str, progress: Progress) -> None:
    folder, fetched = jar_folder(home, name), home / "jars" / f".{name}.new"
    _download(fetched, name, locked_ivy_xml(locked_paths(name)), Path(PLACED).name, progress, LOCKED_SETTINGS)
    locked = locked_jars(name)
    verify(fetched, locked)
    (fetched / _MARKER).write_text(lock_text(locked))
    shutil.rmtree(folder, ignore_errors=True)
    fetched.rename(folder)


def _download(
    folder: Path, name: str, wanted: str, pattern: str, progress: Progress, settings: str | None = None
) -> None:
    """Let Ivy fetch what an Ivy file asks for into an empty `folder`, each jar where the pattern puts it.

    Its cache lies beside: a broken-off fetch goes on.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cache = folder.parent / f".{name}.cache"
    cache.mkdir(exist_ok=True)
    (cache / "ivy.xml").write_text(wanted)
    options = ["-cache", str(cache), "-ivy", str(cache / "ivy.xml"), "-retrieve", f"{folder}/{pattern}"]
    if settings:
        (cache / "ivysettings.xml").write_text(settings)
        options += ["-settings", str(cache / "ivysettings.xml")]
    _run_ivy(name, options, progress)
    shutil.rmtree(cache)


def _shipped(name: str) -> list[str]:
    """The modules that need no fetching, since pyspark has them (in the version it was built with)."""
    if name != "spark":
        return []
    return sorted({artifact(jar.name) for jar in _PYSPARK_JARS.glob("*.jar")})


def artifact(jar: str) -> str:
    """The artifact in a jar's file name: `jsr305` of `jsr305-3.0.0.jar`."""
    return re.split(r"-\d+(?:\.|$)", jar.removesuffix(".jar"), maxsplit=1)[0]


def ivy_xml(jar_set: JarSet, excluded: Iterable[str]) -> str:
    """The Ivy file that asks for a set (format: Ivy 2 module descriptor)."""
    dependencies = "".join(_dependency_xml(*module) for module in jar_set.modules)
    return _module_xml(dependencies + "".join(f"<exclude module={quoteattr(module)}/>" for module in excluded))


def _module_xml(dependencies: str) -> str:
    return (
        "<ivy-module version='2.0' xmlns:m='http://ant.apache.org/ivy/maven'>"
        "<info organisation='cryptoflow' module='jars'/><configurations><conf name='default'/></configurations>"
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )


def _dependency_xml(organisation: str, module: str, revision: str, artifacts: str = "") -> str:
    place = f"org={quoteattr(organisation)} name={quoteattr(module)} rev={quoteattr(revision)}"
    return f"<dependency {place} conf='default'>{artifacts}</dependency>"


def locked_ivy_xml(paths: Iterable[str]) -> str:
    """The Ivy file that asks for exactly these jars of the lock file, in the same format."""
    modules: dict[tuple[str, str, str], list[str]] = {}
    for path in paths:
        *module, jar = path.split("/")
        modules.setdefault((module[0], module[1], module[2]), []).append(jar)
    return _module_xml(
        "".join(
            _dependency_xml(*module, "".join(_artifact_xml(jar, revision=module[2]) for jar in jars))
            for module, jars in modules.items()
        )
    )


def _artifact_xml(jar: str, revision: str) -> str:
    artifact, _, classifier = jar.removesuffix(".jar").rpartition(f"-{revision}")
    classified = f" m:classifier={quoteattr(classifier.removeprefix('-'))}" if classifier else ""
    return f"<artifact name={quoteattr(artifact)} type='jar' ext='jar'{classified}/>"


def _run_ivy(name: str, options: Iterable[str], progress: Progress) -> None:
    java = (str(find_java().executable), ONE_COMPILER, "-cp", f"{_PYSPARK_JARS}/*", "org.apache.ivy.Main")
    command = [*java, "-confs", "default", "-types", "jar", "bundle", *options]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as ivy:
        timer = threading.Timer(FETCH_TIMEOUT_S, ivy.kill)
        timer.start()
        try:
            assert ivy.stdout is not None
            lines = list(_followed(ivy.stdout, name, progress))
        except BaseException:
            ivy.kill()
            raise
        finally:
            timer.cancel()
    if ivy.returncode:
        raise PrerequisiteError(_refusal(name, lines))


def _followed(lines: Iterable[str], name: str, progress: Progress) -> Iterator[str]:
    """Ivy's lines as they come. It tells of a jar twice: when it is found and when it is there."""
    told, expected = 0, 2 * max(1, len(locked_jars(name)))
    for line in lines:
        if line.lstrip().startswith(("found ", "[SUCCESSFUL ]")):
            told += 1
            progress(name, min(told / expected, 0.99))
        yield line


def _refusal(name: str, lines: Iterable[str]) -> str:
    reasons = [line.strip() for line in lines if re.search("unresolved dependency|FAILED|Exception", line)]
    return (
        f"The jars of {name} could not be fetched ({reasons[0] if reasons else 'no answer in time'}): they "
        "come from Maven's public repository, once; make that reachable (behind a proxy: set "
        "JAVA_TOOL_OPTIONS to `-Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT`) and run "
        "`cryptoflow services jars`."
    )


def _silent(name: str, share: float) -> None:
    """The progress of whoever asked for none."""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
