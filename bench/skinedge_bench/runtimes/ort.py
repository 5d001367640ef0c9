"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from skinedge.errors import BundleError, MissingDependencyError
from skinedge.plugins import Outputs, TensorSpec
from skinedge.preprocess import Pixels
from skinedge_bench.tensors import (
    Layout,
    as_outputs,
    check_scores,
    gives_logits,
    own_names,
    own_outputs,
    run_batches,
)

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}


class OrtSession:
    """One .onnx file in ONNX Runtime."""

    partitions: int | None = None

    def __init__(self, session: Any, where: str) -> None:
        self._session = session
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self.metadata: Mapping[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self._layout = Layout.of(self.inputs[0], self.metadata, where)
        specs = {spec.name: spec for spec in self.outputs}
        self._names = own_names(self.metadata, list(specs), where)
        self._wanted = [specs[name] for name in self._names or [self.outputs[0].name]]
        check_scores(self._wanted[0], where)
        self._logits: bool | None = None  # of a stranger's file: asked in the first run, since that takes inferences

    def run(self, pixels: Pixels) -> Outputs:
        arrays = run_batches(self._layout, pixels, self._call, self._wanted)
        if self._names is not None:
            return own_outputs(self._names, arrays)
        if self._logits is None:
            self._logits = gives_logits(self._layout, self.scores)
        return as_outputs(arrays[0], self._logits)

    def scores(self, pixels: Pixels) -> NDArray[Any]:
        """What the file itself gives first: (N, C) float32, probabilities or logits."""
        return run_batches(self._layout, pixels, self._call, self._wanted)[0]

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        feed = {self.inputs[0].name: self._layout.arrange(pixels)}
        return list(self._session.run([spec.name for spec in self._wanted], feed))


class OrtRuntime:
    """Runs .onnx files."""

    name = "onnxruntime"
    suffixes = (".onnx",)

    def version(self) -> str:
        return str(_library().__version__)

    def open(self, path: Path, threads: int) -> OrtSession:
        ort = _library()
        if not path.is_file():
            raise BundleError("no such model file", where=str(path))
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # idle worker threads of this session must not spin while another runtime is being timed
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its C++ exceptions have no common base below Exception
            reason = str(error).strip().splitlines()[0]
            raise BundleError(f"ONNX Runtime cannot load this file ({reason})", where=str(path)) from None
        return OrtSession(session, str(path))


def _library() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingDependencyError("onnxruntime", "all") from None
    return onnxruntime


def _spec(node: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else -1 for side in node.shape)
    return TensorSpec(node.name, shape, DTYPES.get(node.type, node.type))


runtime = OrtRuntime()
