"""Export in two processes: the same files as in one, and the same behaviour on errors and interrupts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from skinedge.core.errors import DataError, GateError, MissingDependencyError, SkinedgeError
from skinedge.data.dataset import read_split
from skinedge.run.run_directory import Bundle
from skinedge.system.cpu import usable_cores
from skinedge_export import parallel
from skinedge_export.export import export
from skinedge_export.search.precision_search import SearchResult
from skinedge_export.target import ExportTarget, export_targets
from tests.export.test_export import change_merge, snapshot

BOTH = ("onnx", "tflite")
MODELS = ["model.fp32.onnx", "model.fp32.tflite", "model.int8.onnx", "model.int8.tflite"]


@pytest.fixture
def copy(merged_run: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(merged_run, tmp_path / "run")
    return Bundle.open(tmp_path / "run")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)


def worker_ids(of: int | None = None) -> list[int]:
    """Return the ids of a process's workers."""
    found = subprocess.run(
        ["pgrep", "-P", str(of or os.getpid()), "-f", "skinedge.system.process_pool"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(line) for line in found.stdout.split()]


def wait_for_worker(of: int | None = None) -> int:
    """Wait for a worker; return its process id."""
    for _ in range(600):
        if found := worker_ids(of):
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no second process in a minute")


def test_two_processes_make_the_files_that_one_makes(
    copy: Bundle, exported_run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 1)
    alone = export(
        Bundle.open(shutil.copytree(copy.root, copy.root.with_name("alone"))), export_targets(BOTH, int8=True)
    )
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    capfd.readouterr()
    together = export(copy, export_targets(BOTH, int8=True))
    said = capfd.readouterr().err
    assert all(said.count(f"{name}: converting ...") == 1 for name in MODELS), "the worker's notes are shown"
    assert all(len(re.findall(rf"{name}: \d+ gates of export \(validation images\): \d", said)) == 1 for name in MODELS)
    for name in MODELS:
        assert (together.root / name).read_bytes() == (alone.root / name).read_bytes(), name
        one, two = (bundle.entries()[name].info for bundle in (alone, together))
        assert one == two
    assert together.manifest.thresholds == alone.manifest.thresholds
    assert not worker_ids()


def test_one_process_is_enough_for_one_format_or_one_core(copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_worker(*_: object) -> None:
        raise AssertionError("a second process")

    monkeypatch.setattr(parallel, "ExportWorker", no_worker)
    export(copy, export_targets(("tflite",)))
    monkeypatch.setattr(parallel, "usable_cores", lambda: 1)
    export(copy.reload(), export_targets(BOTH), force=True)


def test_a_refusal_in_either_process_names_its_file(copy: Bundle) -> None:
    bundle = change_merge(copy, logits_shift=0.01)
    with pytest.raises(GateError) as caught:
        export(bundle, export_targets(BOTH, int8=True))
    assert "2 files were refused" in str(caught.value)
    assert all(f"model.fp32.{format}: gate 'max_difference' failed" in str(caught.value) for format in BOTH)
    assert [entry.path for entry in bundle.reload().model_files()] == ["model.int8.onnx", "model.int8.tflite"]


def test_a_given_precision_is_made_in_a_worker_too(copy: Bundle) -> None:
    done = export(copy, export_targets(BOTH, precision="int8-mixed"))
    assert [entry.path for entry in done.model_files()] == ["model.int8-mixed.onnx", "model.int8-mixed.tflite"]
    assert done.entries()["model.int8-mixed.tflite"].info["kept_float"]


@pytest.mark.parametrize("split", ["cal", "val"])
def test_a_missing_image_is_reported_before_anything_is_converted(
    copy: Bundle, split: str, capfd: pytest.CaptureFixture[str]
) -> None:
    images = shutil.copytree(copy.manifest.data_root, copy.root.with_name("images"))
    lost = next(s for s in read_split(copy.file("split.csv")) if s.split == split)
    (images / lost.path).unlink()
    before = snapshot(copy.root)
    with pytest.raises(DataError, match=re.escape(lost.path)):
        export(copy, export_targets(BOTH, int8=True), data=images)
    assert snapshot(copy.root) == before
    assert "passed" not in capfd.readouterr().err


def test_files_without_calibration_are_kept_if_the_others_are_interrupted(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_precision = parallel.search_precision

    def interrupted(target: ExportTarget, *rest: Any) -> SearchResult:
        if target.calibrated:
            raise KeyboardInterrupt
        return search_precision(target, *rest)

    monkeypatch.setattr(parallel, "search_precision", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(copy, export_targets(BOTH, int8=True))
    assert [entry.path for entry in copy.reload().model_files()] == ["model.fp32.onnx"] and not worker_ids()


def test_an_interruption_ends_the_other_process(copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("skinedge_export.export._keep", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        export(copy, export_targets(BOTH, int8=True))
    assert caught.tb is not None and not worker_ids(), "even while the traceback is referenced"


def test_there_are_no_more_processes_than_cores() -> None:
    three = [
        ExportTarget("onnx", "fp32"),
        ExportTarget("tflite", "fp32"),
        ExportTarget("tflite", "fp32", converter="onnx2tf"),
    ]
    assert parallel._by_process(three) == [three[:1], three[1:]]


def test_a_killed_process_is_an_error_and_costs_only_its_own_files(copy: Bundle) -> None:
    killer = threading.Thread(target=lambda: os.kill(wait_for_worker(), signal.SIGKILL))
    killer.start()
    with pytest.raises(SkinedgeError, match=r"(?s)ended by signal 9.*one --format at a time needs less") as caught:
        export(copy, export_targets(BOTH, int8=True))
    killer.join()
    assert len(str(caught.value)) < 500, "the task itself is not shown"
    assert [entry.path for entry in copy.reload().model_files()] == ["model.fp32.onnx", "model.int8.onnx"]
    assert {"model.fp32.onnx", "model.int8.onnx"} <= set(copy.reload().manifest.thresholds)
    assert not worker_ids()


def test_a_library_that_the_other_process_lacks_is_named(copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = copy.root.with_name("hidden") / "litert_torch"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'litert_torch'\", name='litert_torch')"
    )
    monkeypatch.syspath_prepend(str(hidden.parent))
    with pytest.raises(MissingDependencyError, match="litert-torch"):
        export(copy, export_targets(BOTH))
    assert [entry.path for entry in copy.reload().model_files()] == ["model.fp32.onnx"]


@pytest.mark.skipif(usable_cores() == 1, reason="one core: no second process")
def test_ctrl_c_ends_both_processes(copy: Bundle) -> None:
    before = snapshot(copy.root)
    command = [sys.executable, "-m", "skinedge", "export", str(copy.root), "--format", "all", "--int8"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    other = wait_for_worker(process.pid)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in said
    assert not Path(f"/proc/{other}").exists()
    assert snapshot(copy.root) == before
