"""Fixtures: the command line in this process, copies of the shared run, and small third-party model files."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skinedge.run.run_directory import Bundle

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Return a function that runs `skinedge ARGS` and returns (exit code, stdout, stderr)."""
    from skinedge.cli import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["skinedge", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        assert isinstance(code, int)
        return code, out, err

    return call


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Bundle:
    """A copy of the shared run that tests may damage."""
    return Bundle.open(Path(shutil.copytree(tiny_run, tmp_path / "run")))


@pytest.fixture
def imageless(run: Bundle, tmp_path: Path) -> Bundle:
    """A run without its training images, as on a small device."""
    text = (run.root / "manifest.json").read_text()
    gone = json.dumps(str(tmp_path / "gone"))
    (run.root / "manifest.json").write_text(text.replace(json.dumps(run.manifest.data_root), gone))
    return run.reload()


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a third-party ONNX file of 3 classes; scores are a tenth of each channel's mean.

    layout: 'NHWC' or 'NCHW'; batch: 'n' for a free batch; softmax: output probabilities; dtype: of the input.
    """

    def write(
        layout: str = "NHWC",
        batch: int | str = "n",
        softmax: bool = False,
        dtype: str = "FLOAT",
        labels: str | None = None,
    ) -> Path:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        shape = [batch, 8, 8, 3] if layout == "NHWC" else [batch, 3, 8, 8]
        axes = np.array([1, 2] if layout == "NHWC" else [2, 3], dtype=np.int64)
        nodes = [
            helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
            helper.make_node("Div", ["mean", "ten"], ["scores" if not softmax else "raw"]),
        ]
        if softmax:
            nodes.append(helper.make_node("Softmax", ["raw"], ["scores"], axis=1))
        graph = helper.make_graph(
            nodes,
            "stranger",
            [helper.make_tensor_value_info("image", getattr(TensorProto, dtype), shape)],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
            [numpy_helper.from_array(axes, "axes"), numpy_helper.from_array(np.float32(10), "ten")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        if labels is not None:
            helper.set_model_props(model, {"labels": labels})
        path = tmp_path / f"{layout}_{batch}_{softmax}_{dtype}.onnx"
        onnx.save(model, path)
        return path

    return write
