"""train, export and bench in sequence without naming a run; errors of the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skinedge.run.run_directory import Bundle


def skinedge(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skinedge", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_train_export_and_bench_in_sequence(tmp_path: Path, synthetic_images: Path, tiny_config: Path) -> None:
    done = skinedge("train", "--data", synthetic_images, "--config", tiny_config, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trained = json.loads(done.stdout)
    assert trained["schema"] == "skinedge.train/1"
    done = skinedge("export", "--format", "tflite", "--int8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert trained["run"] in done.stderr
    bundle = Bundle.open(tmp_path / trained["run"])
    assert [entry.path for entry in bundle.model_files()] == ["model.fp32.tflite", "model.int8.tflite"]
    assert bundle.manifest.default_file == "model.int8.tflite"
    done = skinedge("bench", "--protocol", "quick", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "skinedge.bench/1" and document["model_id"] == trained["model_id"]
    rows = {(row["file"], row["runtime"]): row for row in document["rows"]}
    assert set(rows) == {
        ("model.safetensors", "torch"),
        ("model.fp32.tflite", "litert"),
        ("model.int8.tflite", "litert"),
    }
    assert all(row["p50_ms"] > 0 and row["balanced_accuracy"] is not None for row in rows.values())
    small, large = (rows[f"model.{precision}.tflite", "litert"]["size_bytes"] for precision in ("int8", "fp32"))
    assert small <= 0.31 * large


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train",), 1, "--data DIR"),
        (("run",), 1, "skinedge data synth"),
        (("train", "--data", "none"), 1, "no such folder"),
        (("train", "--data", "{data}", "--backbone", "resnet-18"), 1, "resnet18"),
        (("train", "--data", "{data}", "--device", "tpu"), 1, "auto, cpu, cuda"),
        (("train", "--data", "{data}", "--resume"), 1, "no unfinished training"),
        (("train", "--data", "{data}", "--resume", "--force"), 1, "contradict"),
        (("train", "--data", "{data}", "--epochs", "many"), 1, "--epochs"),
        (("train", "--data", "{data}", "--epochs", "0"), 1, "epochs is 0"),
        (("train", "--data", "{data}", "--limit", "5"), 1, "too small"),
        (("export", "nowhere"), 1, "no such run"),
        (("export", "{run}", "--format", "coreml"), 1, "onnx"),
        (("merge", "{empty}"), 1, "not a run directory"),
        (("bench",), 1, "no complete run"),
        (("bench", "{run}", "--protocol", "fast"), 1, "standard"),
        (("bench", "{run}", "--threads", "999"), 1, "must be between 1 and"),
        (("predict", "{image}"), 1, "no complete run"),
        (("nonsense",), 1, "nonsense"),
    ],
)
def test_an_error_says_what_to_do_and_leaves_nothing(
    tmp_path: Path, synthetic_images: Path, tiny_run: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    paths = {
        "{data}": str(synthetic_images),
        "{run}": str(tiny_run),
        "{empty}": str(tmp_path / "empty"),
        "{image}": str(next(synthetic_images.rglob("*.jpg"))),
    }
    done = skinedge(*(paths.get(argument, argument) for argument in arguments), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["empty"]


def test_other_base_weights_are_refused(tmp_path: Path, trained_run: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    path = run / "manifest.json"
    raw = json.loads(path.read_text())
    raw["training"]["config"]["weights"] = "random"
    path.write_text(json.dumps(raw))
    done = skinedge("merge", run, cwd=tmp_path)
    assert done.returncode == 1 and "refusing to merge over other base weights" in done.stderr
    assert not (run / "model.safetensors").exists()
