"""The throughput benchmark: it runs the stated work, and its figures follow from the times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from skinedge.system.cpu import usable_cores

SCRIPT = ("-m", "experiments.throughput")


def test_the_figures_follow_from_the_times(tiny_run: Path, synthetic_images: Path, tmp_path: Path) -> None:
    out = tmp_path / "throughput.json"
    sizes = ["--images", "130", "--few", "20"]
    command = [sys.executable, *SCRIPT, "--data", synthetic_images, "--run", tiny_run, *sizes, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    cores = usable_cores()
    for command_name in ("predict", "evaluate"):
        few, many, one = (row for row in document["timings"] if row["command"] == command_name)
        assert [row["images"] for row in (few, many, one)] == [20, 130, 130]
        assert [row["cores"] for row in (few, many, one)] == [cores, cores, 1]
        assert all(row["images_per_second"] == pytest.approx(row["images"] / row["seconds"]) for row in (many, one))
        assert 30 < one["peak_rss_mib"] < 5000
        expected = one["seconds"] / (cores * many["seconds"])
        assert document["efficiency"][command_name] == pytest.approx(expected)
        assert f"{command_name}: {expected:.1%}" in done.stdout
    assert document["device"]["cpu"] in done.stdout and "onnxruntime" in document["device"]["versions"]


def test_too_few_images_and_a_failing_command_are_errors(
    tiny_run: Path, synthetic_images: Path, tmp_path: Path
) -> None:
    for arguments, words in ((["--images", "1000"], "1000 images requested"), (["--file", "gone"], "gone")):
        small = ["--images", "2", "--few", "2", *arguments]
        command = [sys.executable, *SCRIPT, "--data", synthetic_images, "--run", tiny_run, *small]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and words in done.stderr
        assert done.stderr.count("Traceback") == 0
