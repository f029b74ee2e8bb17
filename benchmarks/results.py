"""The file of results: what was measured last, part by part, and on what."""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.environment import CONNECTOR, PACKAGES
from cryptoflow.local.jars import SETS
from cryptoflow.local.java import find_java

FILE = Path(__file__).parent / "results" / "latest.json"

MEASURED = ("cryptoflow", "pyspark", "kafka-python", "cassandra-driver", "websockets", "msgspec")
"""Packages whose versions matter."""


@contextmanager
def circumstances() -> Iterator[dict[str, Any]]:
    """Date, machine, versions, and how busy the machine was with whatever else, before and after the block."""
    told = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1)},
        "versions": versions(),
        "load_before": round(os.getloadavg()[0], 2),
    }
    yield told
    told["load_after"] = round(os.getloadavg()[0], 2)


def versions() -> dict[str, str]:
    """Of all that is measured."""
    jars = {name: revision for jar_set in SETS.values() for _, name, revision in jar_set.modules}
    ours = {name: version(name) for name in MEASURED}
    flinks = dict(package.split("==") for package in PACKAGES) | {CONNECTOR.split("/")[1]: CONNECTOR.split("/")[2]}
    return {"python": platform.python_version(), "java": str(find_java().version)} | ours | jars | flinks


def keep(part: str, figures: Mapping[str, Any], file: Path = FILE) -> None:
    """Put a part's figures in the place of its former ones; what was not measured stays as it is."""
    kept = json.loads(file.read_text()) if file.is_file() else {}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(kept | {part: figures}, indent=2) + "\n")
