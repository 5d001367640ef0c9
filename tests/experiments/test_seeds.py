"""`skinedge run` by seeds: real runs, their results file, and which seeds are repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import seeds

REFUSED = "error: model.int8.onnx: no file kept the diagnosis on validation images:\n  int8: fall 0.2"


def read(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "seeds.json").read_text())
    return document


def test_each_seed_is_one_run_and_a_finished_one_is_not_repeated(
    tinted: Path,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more threads slow down a run this small
    out = tmp_path / "seeds"
    arguments = ["--data", str(tinted), "--limit", "120", "--epochs", "3", "--config", str(tiny), "--out", str(out)]
    code = seeds.main([*arguments, "--seeds", "3"])
    (outcome,) = read(out)["outcomes"]
    printed, log = capsys.readouterr().out, (out / "3.log").read_text()
    assert (outcome["seed"], outcome["exit_code"], code) == (3, 0, 0), log
    parity = json.loads((out / "3" / "reports" / "parity.json").read_text())["files"]
    tflite = next(name for name in outcome["precisions"] if name.endswith(".tflite"))
    assert outcome["balanced_accuracy"] == parity[tflite]["metrics"]["balanced_accuracy"] > 0.5
    assert set(outcome["precisions"].values()) <= {"int8", "int8-mixed"} and len(outcome["precisions"]) == 2
    assert set(outcome["gates"]) == set(parity) and outcome["seconds"] > 1 and outcome["error"] == ""
    assert f"{outcome['balanced_accuracy']:.4f}" in printed and str(tinted) in log

    before = (out / "3" / "manifest.json").stat().st_mtime_ns
    assert seeds.main([*arguments, "--seeds", "3"]) == 0
    assert read(out)["outcomes"] == [outcome] and (out / "3" / "manifest.json").stat().st_mtime_ns == before
    assert seeds.main([*arguments, "--seeds", "3", "--epochs", "1"]) == 1
    assert "Choose another --out" in capsys.readouterr().err


def test_a_failed_seed_is_reported_and_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(tmp_path / "none"), "--seeds", "0", "--out", str(tmp_path / "seeds")]
    for _ in range(2):
        assert seeds.main(arguments) == 1
        (outcome,) = read(tmp_path / "seeds")["outcomes"]
        assert outcome["exit_code"] == 1 and outcome["error"].startswith("error: ") and "none" in outcome["error"]
        assert "seed 0: exit code 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "error", "ended_well"),
    [
        (0, "", True),
        (1, REFUSED, True),
        (1, "error: a gate failed:\n  model.int8.tflite: agreement failed", True),
        (1, "error: model.int8.onnx: gate 'finite' failed: 1, limit 0 (128 images)", True),
        (1, "error: 2 files were not made:\n  model.int8.onnx: LinAlgError: not positive-definite", False),
        (-9, REFUSED, False),
    ],
)
def test_only_success_and_a_named_gate_end_well(code: int, error: str, ended_well: bool) -> None:
    assert seeds.Outcome(0, code, 1.0, None, {}, {}, error).ended_well is ended_well


def test_seeds_are_ranges_and_lists() -> None:
    assert seeds.seeds_of("0-3,7") == [0, 1, 2, 3, 7]
