"""What a run's parts leave for whoever watches the run: one small file each, replaced as a whole.

HOME/runs/RUN_ID/PART.json; for the screen of `cryptoflow run`. Everything that counts is in Dagster and Cassandra.
"""

import shutil
from pathlib import Path

import msgspec

from cryptoflow.model.candle import Candle
from cryptoflow.runtime.metrics import PartMetrics


class PartStatus(msgspec.Struct):
    """How a part of a run is doing."""

    metrics: PartMetrics | None = None
    """None: it has told none yet."""
    notice: str = ""
    """Where the trades come from."""
    candles: list[Candle] = []
    """The newest candles, of a part that keeps them nowhere else."""


def _folder(home: Path, run_id: str) -> Path:
    return home / "runs" / run_id


def write_status(home: Path, run_id: str, part: str, status: PartStatus) -> None:
    """Leave the part's status."""
    folder = _folder(home, run_id)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{part}.draft"
    draft.write_bytes(msgspec.json.encode(status))
    draft.replace(folder / f"{part}.json")


def read_statuses(home: Path, run_id: str) -> dict[str, PartStatus]:
    """The status of each part that has left one."""
    files = _folder(home, run_id).glob("*.json")
    return {file.stem: msgspec.json.decode(file.read_bytes(), type=PartStatus) for file in files}


def forget_status(home: Path, run_id: str) -> None:
    """Remove what the run's parts left."""
    shutil.rmtree(_folder(home, run_id), ignore_errors=True)
