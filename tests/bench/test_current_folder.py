"""Commands execute no module in the current folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TRAPS = ("numpy", "json", "onnxruntime", "PIL", "torch", "skinedge", "ai_edge_litert", "filelock")


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder of modules that create a file when they are executed."""
    executed = tmp_path / "executed"
    for name in TRAPS:
        (tmp_path / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(executed)!r}).touch()\n")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "RUN", "--force"),
        ("bench", "RUN", "--protocol", "quick", "--runtime", "onnxruntime"),
        ("predict", "DATA", "--run", "RUN", "--jobs", "2", "--out", "OUT"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_executes_no_module_in_the_current_folder(
    tiny_run: Path,
    synthetic_images: Path,
    trapped: Path,
    tmp_path_factory: pytest.TempPathFactory,
    arguments: tuple[str, ...],
) -> None:
    run = tmp_path_factory.mktemp("run") / "run"
    shutil.copytree(tiny_run, run)
    paths = {"RUN": str(run), "DATA": str(synthetic_images), "OUT": str(run.parent / "predictions.jsonl")}
    command = [sys.executable, "-P", "-m", "skinedge", *(paths.get(word, word) for word in arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    completed = subprocess.run(command, cwd=trapped, env=environment, capture_output=True, text=True, check=False)
    assert not (trapped / "executed").exists(), completed.stderr
    assert completed.returncode == 0, completed.stderr


@pytest.mark.parametrize("name", ["__future__", "signal", "typing", "random", "numpy", "json"])
def test_python_m_executes_no_module_in_the_current_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('executed')\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    command = [sys.executable, "-m", "skinedge", "data", "info", "nowhere"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "executed" not in done.stderr and done.stderr.startswith("error: nowhere: no such folder")
