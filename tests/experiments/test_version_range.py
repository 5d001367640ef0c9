"""The short pipeline of `make test-range`, in this environment; the environments themselves are made by the command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments import version_range

STEPS = {name: version_range.STEPS[name] for name in ("draw images", "merge", "help")}


def test_every_step_is_run_and_a_failed_one_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version_range, "STEPS", STEPS)
    drawn, merged, helped = version_range.run(Path(sys.executable), tmp_path / "work")
    assert (drawn.step, drawn.reason, helped.reason) == ("draw images", None, None)
    assert merged.reason is not None and merged.reason.startswith("error: ") and "run" in merged.reason
    assert (tmp_path / "work" / "images").is_dir() and drawn.seconds > 0


def test_the_versions_are_those_of_what_is_asked_for() -> None:
    found = version_range.versions(Path(sys.executable))
    assert {"numpy", "pillow", "torch", "timm", "onnx", "litert-torch"} <= set(found) and "skinedge" not in found
