"""Conversion to TFLite by way of ONNX and TensorFlow, to compare with litert-torch or to use where that fails."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.core.json_io import read_json
from skinedge.system.child_process import run_program
from skinedge.system.temporary_folder import scratch_folder
from skinedge_export.converter import INPUT, Artifact, ExportJob
from skinedge_export.formats.metadata import append_zip
from skinedge_export.formats.onnx.convert import fp32_graph
from skinedge_export.formats.onnx2tf.channels_first import channels_first
from skinedge_export.formats.onnx2tf.environment import PINS, WITHOUT, interpreter
from skinedge_export.formats.tflite.convert import artifact
from skinedge_export.formats.tflite.metadata import with_metadata
from skinedge_export.recipe import RECIPES, ExportRecipe, load_recipe

SCRIPT = Path(__file__).with_name("foreign.py")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Onnx2tfConverter:
    """See `skinedge_export.converter.Converter`. Makes fp32 and int8; int8 ranges are TensorFlow's, min-max."""

    format = "tflite"
    suffix = ".tflite"
    runtime = "litert"
    ranges = ("min-max",)
    libraries = ("timm", "torch.onnx", "onnxscript")

    def recipe(self, precision: str) -> ExportRecipe:
        """Return the recipe; its hash covers the pinned packages, which can change the file."""
        recipe = load_recipe(RECIPES / f"onnx2tf-{precision}.toml")
        return replace(recipe, sha256=hashlib.sha256(recipe.sha256.encode() + PINS.read_bytes()).hexdigest())

    def convert(self, job: ExportJob, path: Path) -> Artifact:
        """See `Converter.convert`."""
        _check(job)
        python = interpreter()
        model, _ = fp32_graph(job)
        content, versions = _convert(channels_first(model), job, python)
        path.write_bytes(with_metadata(content, job.description, job.form.outputs))
        append_zip(path, job.description)
        tools = {tool: version(tool) for tool in ("torch", "onnxscript", "onnx")}
        return artifact(job.recipe.precision, path, {**tools, **versions})


converter = Onnx2tfConverter()


def _check(job: ExportJob) -> None:
    """Raises: ConfigError for settings that TensorFlow's converter does not support."""
    precision, ranges = job.recipe.precision, job.recipe.calibration.ranges
    if precision not in ("fp32", "int8") or job.kept_float:
        raise ConfigError("the converter onnx2tf makes fp32 and int8 (all layers)", todo=WITHOUT)
    if precision == "int8" and job.calibration is None:
        raise ConfigError("static int8 needs calibration images")
    if precision == "int8" and ranges not in Onnx2tfConverter.ranges:
        raise ConfigError(f"the converter onnx2tf has no ranges '{ranges}', only min-max", todo=WITHOUT)


def _convert(model: Any, job: ExportJob, python: Path) -> tuple[bytes, Mapping[str, str]]:
    """Return the flatbuffer, and tool -> version of the other environment."""
    size, encode = job.description.preprocess.size, job.form.input.encode
    request = {
        "input": INPUT,
        "outputs": job.form.outputs,
        "precision": job.recipe.precision,
        "float_ops": job.recipe.tflite.float_ops,
    }
    with scratch_folder() as folder:
        (folder / "request.json").write_text(json.dumps(request))
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        np.save(folder / "sample.npy", encode(np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)))
        if job.calibration is not None:
            np.save(folder / "calibration.npy", encode(job.calibration))
        _run(python, folder, job.description.architecture)
        return (folder / "model.tflite").read_bytes(), read_json(
            folder / "reply.json", dict[str, str], error=SkinedgeError
        )


def _run(python: Path, folder: Path, where: str) -> None:
    """Run the conversion in TensorFlow's environment.

    Raises: SkinedgeError, which quotes its error message.
    """
    command = [str(python), "-I", str(SCRIPT.resolve())]
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(folder)}
    done = run_program(command, cwd=folder, environment=settings, stderr=subprocess.STDOUT)
    if done.returncode:
        text = COLOURS.sub("", done.stdout)
        raise SkinedgeError(f"onnx2tf failed: {_error_text(text, done.returncode)}", where=where, todo=WITHOUT)


def _error_text(text: str, code: int) -> str:
    """Return the most informative line: onnx2tf's own error (it then exits without an exception), or the exception."""
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name} (out of memory?)"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("FAILED")), "no message")
    errors = [line for line in lines if line.startswith("ERROR: ") and "trace log" not in line]
    return (errors[0].removeprefix("ERROR: ") if errors else last.removeprefix("FAILED "))[:300]
