"""The commands of README work, in order, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "<!-- commands: run by tests/pipeline/test_readme.py -->"


def commands() -> list[str]:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = text.split(MARK)[1].split("```")[1]
    return [line for line in block.strip().splitlines() if line]


def test_the_commands_of_readme_work(tmp_path: Path) -> None:
    assert len(commands()) >= 5
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    outputs = {}
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        outputs[command.split()[1]] = done.stdout
    files = {"model.fp32.onnx", "model.fp32.tflite", "model.int8.onnx", "model.int8.tflite"}
    cards = {f"{name}.skinedge.json" for name in files}
    assert {p.name for p in (tmp_path / "runs" / "first").glob("model.*")} == {*files, *cards, "model.safetensors"}
    assert "Parity" in outputs["run"] and "p50 ms" in outputs["run"]
    assert "balanced accuracy" in outputs["evaluate"].lower()
    assert "mel" in outputs["predict"]
