"""The short pipeline of `make test-range` in this environment; only the command itself creates environments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments import version_range

STEPS = {name: version_range.STEPS[name] for name in ("data synth", "merge", "help")}


def test_every_step_runs_and_a_failed_one_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_range, "STEPS", STEPS)
    synth, merge, help_ = version_range.run(Path(sys.executable), tmp_path / "work")
    assert (synth.step, synth.reason, help_.reason) == ("data synth", None, None)
    assert merge.reason is not None and merge.reason.startswith("error: ") and "run" in merge.reason
    assert (tmp_path / "work" / "images").is_dir() and synth.seconds > 0


def test_the_versions_are_those_of_the_direct_dependencies() -> None:
    names = set(version_range.versions(Path(sys.executable)))
    assert {"numpy", "pillow", "torch", "timm", "onnx", "litert-torch"} <= names and "skinedge" not in names
