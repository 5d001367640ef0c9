"""The emulated Raspberry Pi: when it cannot be made, and what counts as the same answer. The proof itself: make pi."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pi import debian, prove
from pi.compare import same_answers, same_evaluation, same_predictions, untimed
from pi.machine import CORES, PYTHONS, REPOSITORY, Machine, finished

from skinedge.core.errors import SkinedgeError

HERE = np.array([[0.7, 0.2, 0.1], [0.3, 0.35, 0.35], [0.05, 0.05, 0.9]], dtype=np.float32)


def test_a_host_without_debians_archive_is_skipped_visibly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(prove, "FOLDER", tmp_path / "pi")
    with pytest.raises(debian.Unreachable, match="no apt"):
        debian.mirror()
    assert prove.main() == 0
    out, err = capfd.readouterr()
    assert "SKIPPED" in err and out == ""


def test_an_archive_out_of_reach_leaves_no_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    try:
        debian.mirror()
    except debian.Unreachable as error:
        pytest.skip(str(error))
    monkeypatch.setattr(debian, "mirror", lambda: f"file://{tmp_path}/nothing")
    with pytest.raises(debian.Unreachable, match="apt-get"):
        debian.unpack(["python3-minimal"], "trixie", "arm64", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_apts_view_is_a_private_one(tmp_path: Path) -> None:
    try:
        debian.configure(_work(tmp_path), "trixie", "arm64")
    except debian.Unreachable as error:
        pytest.skip(str(error))
    environment = {**os.environ, "APT_CONFIG": str(tmp_path / "apt.conf")}
    told = finished("dump", where=tmp_path, start=["apt-config"], environment=environment)
    for name in ("Dir::State ", "Dir::Cache ", "Dir::State::status ", "Dir::Etc::sourcelist "):
        (line,) = [line for line in told.splitlines() if line.startswith(name)]
        assert str(tmp_path) in line
    assert 'APT::Architecture "arm64"' in told
    source = (tmp_path / "etc" / "sources.list").read_text()
    assert "signed-by=" in source and " trixie main" in source  # the release is pinned, the versions Debian signs


def _work(folder: Path) -> Path:
    (folder / "etc").mkdir()
    return folder


def test_a_tflite_file_must_answer_the_same() -> None:
    same = same_answers("model.int8.tflite", HERE, HERE)
    assert same.good and same.text == "identical"
    rounded = same_answers("model.int8.tflite", HERE, HERE + np.float32(5e-7))
    assert rounded.good and "3 of 3" in rounded.text
    assert not same_answers("model.int8.tflite", HERE, HERE + np.float32(1e-4)).good


def test_an_onnx_file_must_decide_the_same_where_it_is_clear() -> None:
    close, clear = HERE.copy(), HERE.copy()
    close[1] = [0.4, 0.3, 0.3]
    clear[0] = [0.2, 0.7, 0.1]
    judged = same_answers("model.int8.onnx", HERE, close)
    assert judged.good and judged.text.startswith("2 of 3")
    assert not same_answers("model.int8.onnx", HERE, clear).good


def test_predictions_and_evaluations() -> None:
    one = {"label": "mel", "model_sha256": "0", "malignant_probability": 0.4}
    assert same_predictions([one], [one]).good and not same_predictions([], []).good
    for change in ({"label": "nv"}, {"model_sha256": "1"}, {"malignant_probability": 0.41}):
        assert not same_predictions([one], [{**one, **change}]).good
    whole = {"confusion": [[1, 0], [0, 1]], "n": 2, "balanced_accuracy": 1.0}
    assert same_evaluation(whole, whole).good
    for change in ({"confusion": [[1, 0], [1, 0]]}, {"n": 3}, {"balanced_accuracy": 0.9}):
        assert not same_evaluation(whole, {**whole, **change}).good


def test_an_emulated_time_is_a_failure() -> None:
    row: dict[str, Any] = {"file": "a", "p50_ms": None, "p90_ms": None, "load_ms": None}
    assert untimed({"device": {"emulated": "aarch64 on x86_64"}, "rows": [row]}).good
    assert not untimed({"device": {"emulated": None}, "rows": [row]}).good
    assert not untimed({"device": {"emulated": "yes"}, "rows": [{**row, "p50_ms": 500.0}]}).good
    assert not untimed({"device": {"emulated": "yes"}, "rows": []}).good


def test_what_fails_there_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "3.13", "cortex-a53")
    (tmp_path / "python3.13").write_text("#!/bin/sh\necho no such instruction >&2\nexit 132\n")
    (tmp_path / "python3.13").chmod(0o755)
    with pytest.raises(SkinedgeError, match="exited with 132 and said: no such instruction"):
        machine.finished("-m", "skinedge", where=tmp_path)
    (machine.site / "numpy").mkdir(parents=True)
    (machine.site / "numpy" / "a.py").write_bytes(bytes(1000))
    (machine.site / "numpy" / "a.cpython-313.pyc").write_bytes(bytes(500))
    assert machine.installed() == (1000, 1500)
    assert set(CORES) == {"cortex-a53", "cortex-a72", "cortex-a76"} and set(PYTHONS) == {"3.11", "3.13"}
    assert (REPOSITORY / "pyproject.toml").is_file()
