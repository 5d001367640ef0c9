"""The notebook runs from its first to its last cell on synthetic images, and is committed without outputs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from skinedge.run.run_directory import Bundle

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "skin_lesion_lora.ipynb"
SETTINGS = {
    "SYNTHETIC_IMAGES": "140",
    "IMAGE_SIZE": "64",
    "EPOCHS": "6",
    "FORMATS": "tflite",
    "IMAGES": "",
    "SOURCE": "",
}


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))
    text = " ".join(" ".join(cell.source for cell in notebook.cells).split())
    assert "not a medical device" in text and "on Colab was not measured" in text


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"SKINEDGE_{name}", value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    for words in (
        "SYNTHETIC",
        "model.int8.tflite",
        "malignant images flagged",
        "p50",
        "malignant_probability",
    ):
        assert words in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4  # history, confusion, ROC, Grad-CAM
    bundle = Bundle.open(tmp_path / "runs" / "notebook")
    assert {"model.fp32.tflite", "model.int8.tflite", "reports/parity.json", "reports/latency.json"} <= set(
        bundle.entries()
    )
    with zipfile.ZipFile(tmp_path / "skinedge-run.zip") as archive:
        assert {f"notebook/{name}" for name in bundle.entries()} <= set(archive.namelist())
