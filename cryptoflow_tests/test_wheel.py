"""The wheel works by itself: built, installed in an empty environment, run from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from cryptoflow.local.processes import free_port
from cryptoflow_tests.conftest import REPOSITORY

UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_runs_memory_mode_from_an_empty_folder(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist"), cwd=REPOSITORY)
    (wheel,) = (tmp_path / "dist").glob("cryptoflow-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert "cryptoflow/web/static/index.html" in packed.namelist()
    venv, empty = tmp_path / "venv", tmp_path / "empty"
    run(UV, "venv", "--python", sys.executable, venv, cwd=tmp_path)
    install = (UV, "pip", "install", "--python", venv / "bin" / "python", "-c", REPOSITORY / "requirements.lock", wheel)
    try:
        run(*install, "--offline", cwd=REPOSITORY)  # what `make setup` left in uv's cache
    except AssertionError:
        run(*install, cwd=REPOSITORY)
    empty.mkdir()
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("CRYPTO", "DAGSTER", "PYTHON"))}
    output = run(
        *(venv / "bin" / "cryptoflow", "run", "--mode", "memory", "--timeout", "20", "--no-ui"),
        cwd=empty,
        env=bare | {"SPARK_UI_PORT": str(free_port())},
    )
    for shown in ("the built-in simulator", "set CRYPTOCOMPARE_API_KEY", "Coinbase", "BTC-USD", "SUCCESS"):
        assert shown in output
    run(venv / "bin" / "cryptoflow", "candles", "--help", cwd=empty, env=bare)
