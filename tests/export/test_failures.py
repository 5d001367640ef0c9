"""One failure costs one file: every stage of one export target fails in every way; the other files are kept."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from skinedge.core.errors import SkinedgeError
from skinedge.run.run_directory import Bundle
from skinedge_export import context, parallel
from skinedge_export import export as exporting
from skinedge_export.export import export
from skinedge_export.formats.onnx.convert import OnnxConverter
from skinedge_export.int8 import gptq
from skinedge_export.search import precision_search
from skinedge_export.target import export_targets
from tests.export.test_export import run_cli

ONNX = ("onnx",)
ERRORS = (
    torch.linalg.LinAlgError("not positive-definite"),
    MemoryError("cannot allocate 3 GiB"),
    RuntimeError("a bug"),
    OSError(errno.ENOSPC, "No space left on device"),
)
STAGES: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "preparing int8": (gptq, "round_weights", lambda *_: True),
    "converting": (OnnxConverter, "convert", lambda _self, job, *_: job.recipe.precision == "int8"),
    "checking": (precision_search, "check_candidate", lambda _path, description, *_: description.precision == "int8"),
    "scoring": (precision_search, "scores", lambda path, *_: path.parent.joinpath("1.onnx").exists()),
    "timing": (exporting, "_timed", lambda _bundle, target, *_: target.calibrated),
    "keeping": (exporting, "_keep", lambda _bundle, target, *_: target.calibrated),
}
CASES = [(stage, ERRORS[number % len(ERRORS)]) for number, stage in enumerate(STAGES)]


@pytest.fixture
def copy(merged_run: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(merged_run, tmp_path / "run")
    return Bundle.open(tmp_path / "run")


def inject(
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    error: Exception,
    when: Callable[..., bool] = lambda *_: True,
) -> None:
    """Make a function raise `error` if `when` is true for its arguments."""
    original = getattr(place, name)

    def faulty(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(place, name, faulty)


def files(bundle: Bundle) -> list[str]:
    return [entry.path for entry in bundle.reload().model_files()]


@pytest.mark.parametrize(("stage", "error"), CASES, ids=[stage for stage, _ in CASES])
def test_a_failing_stage_of_int8_leaves_fp32(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch, stage: str, error: Exception
) -> None:
    place, name, when = STAGES[stage]
    inject(monkeypatch, place, name, error, when)
    with pytest.raises(SkinedgeError) as caught:
        export(copy, export_targets(ONNX, int8=True))
    said = str(caught.value)
    assert "model.int8.onnx" in said and type(error).__name__ in said and str(error) in said
    assert files(copy) == ["model.fp32.onnx"]
    after = copy.reload()
    assert "model.fp32.onnx" in after.manifest.thresholds and (after.root / "model.fp32.onnx.skinedge.json").is_file()
    assert any("Traceback" in note for note in caught.value.__notes__)


def test_the_command_ends_with_1_names_the_file_and_makes_it_the_next_time(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("export", str(copy.root), "--format", "tflite", "--int8")  # ONNX int8 may not hold on this CPU
    with monkeypatch.context() as faulty:
        inject(faulty, context.ExportContext, "quantizable", ERRORS[0])
        assert run_cli(monkeypatch, *arguments) == 1
    said = capsys.readouterr().err
    assert "error: model.int8.tflite: _LinAlgError: not positive-definite\n" in said and "Traceback" not in said
    assert run_cli(monkeypatch, *arguments) == 0
    assert files(copy) == ["model.fp32.tflite", "model.int8.tflite"]


@pytest.mark.parametrize("step", ["fit_thresholds", "write_cards"])
def test_a_failing_step_after_the_files_costs_none_of_them(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as faulty:
        inject(faulty, exporting, step, MemoryError())
        with pytest.raises(SkinedgeError, match="MemoryError: no message") as caught:
            export(copy, export_targets(ONNX))
    assert caught.value.where == {"fit_thresholds": "thresholds", "write_cards": "cards"}[step]
    assert files(copy) == ["model.fp32.onnx"]
    done = export(copy.reload(), export_targets(ONNX))
    assert "model.fp32.onnx" in done.manifest.thresholds and (done.root / "model.fp32.onnx.skinedge.json").is_file()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_images_that_do_not_fit_into_memory_cost_int8_alone(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    inject(monkeypatch, context, "load_calibration", error)
    with pytest.raises(SkinedgeError, match=r"model\.int8\.onnx"):
        export(copy, export_targets(ONNX, int8=True))
    assert files(copy) == ["model.fp32.onnx"]


def test_a_preparation_that_fails_for_the_other_process_costs_its_file(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    inject(monkeypatch, gptq, "round_weights", ERRORS[0])
    with pytest.raises(SkinedgeError, match="2 files were not made") as caught:
        export(copy, export_targets(("onnx", "tflite"), int8=True))
    assert all(f"model.int8.{name}: _LinAlgError: not positive-definite" in str(caught.value) for name in ONNX)
    assert files(copy) == ["model.fp32.onnx", "model.fp32.tflite"]


def test_a_process_that_cannot_be_started_costs_its_files(copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    inject(monkeypatch, parallel, "Worker", OSError(errno.EAGAIN, "Resource temporarily unavailable"))
    with pytest.raises(SkinedgeError, match=r"(?s)model\.fp32\.tflite.*Resource temporarily unavailable"):
        export(copy, export_targets(("onnx", "tflite")))
    assert files(copy) == ["model.fp32.onnx"]


def test_an_error_of_any_kind_in_the_other_process_costs_its_files(
    copy: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    library = copy.root.with_name("broken") / "litert_torch"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("raise MemoryError('in a library')")
    monkeypatch.syspath_prepend(str(library.parent))
    with pytest.raises(SkinedgeError, match="MemoryError: in a library") as caught:
        export(copy, export_targets(("onnx", "tflite")))
    assert "tflite fp32" in str(caught.value)
    assert any("litert_torch/__init__.py" in note for note in caught.value.__notes__)
    assert files(copy) == ["model.fp32.onnx"]
