"""ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from skinedge.core.errors import BundleError
from skinedge.core.preprocess import Pixels
from skinedge.run.plugins import TensorSpec
from skinedge.system.cpu_features import cpu_features
from skinedge.system.requirements import import_failure
from skinedge_bench.device import saturates
from skinedge_bench.runtimes import onnx_graph
from skinedge_bench.runtimes.input_layout import Layout
from skinedge_bench.runtimes.output_format import Output, last_operation
from skinedge_bench.runtimes.session import FileSession, check_suffix, refusing

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OrtSession(FileSession):
    """One .onnx file in ONNX Runtime."""

    runtime = "ONNX Runtime"

    def __init__(self, session: Any, where: str) -> None:
        self._session = session
        inputs = tuple(_spec(node) for node in session.get_inputs())
        outputs = tuple(_spec(node) for node in session.get_outputs())
        metadata: Mapping[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        super().__init__(Layout.of(inputs, metadata, where), inputs, outputs, metadata, where)

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        feed = {self.inputs[0].name: self.layout.arrange(pixels)}
        return list(self._session.run([spec.name for spec in self._selected], feed))

    def _described(self) -> list[Output]:
        """See `FileSession._described`; ONNX does not state the scale of an integer output."""
        with refusing(self.runtime, "read", self._where):
            operations = onnx_graph.nodes(Path(self._where).read_bytes())
        producers = {name: (node.operation, node.inputs) for node in operations for name in node.outputs}
        return [Output(spec, *last_operation(spec.name, producers)) for spec in self.outputs]


class OrtRuntime:
    """Runs .onnx files."""

    name = "onnxruntime"
    suffixes = (".onnx",)
    optional = False

    def version(self) -> str:
        """See `Runtime.version`."""
        return str(library().__version__)

    def open(self, path: Path, threads: int) -> OrtSession:
        """See `Runtime.open`."""
        return open_session(path, session_options(threads), ["CPUExecutionProvider"])


def session_options(threads: int) -> Any:
    """Return onnxruntime.SessionOptions for `threads` threads, with exact sums of int8 products on every CPU.

    Raises: MissingDependencyError.
    """
    options = library().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised too
    # idle worker threads of this session must not spin while another runtime is timed
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if saturates(cpu_features()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_session(path: Path, options: Any, providers: Sequence[Any]) -> OrtSession:
    """Open a session. Raises: BundleError when ONNX Runtime cannot load the file with these providers."""
    if not path.is_file():
        raise BundleError("no such model file", where=str(path))
    check_suffix(path)
    try:
        with refusing(OrtSession.runtime, "load", str(path)):
            return OrtSession(library().InferenceSession(str(path), options, providers=providers), str(path))
    except BundleError as error:
        raise _without_weights(path) or error from None


def _without_weights(path: Path) -> BundleError | None:
    """Return an error if the weights are in another file, which is missing."""
    with contextlib.suppress(ValueError):
        missing = sorted(
            name for name in onnx_graph.external_files(path.read_bytes()) if not (path.parent / name).is_file()
        )
        if missing:
            what = f"its weights are in another file, which is missing: {', '.join(missing)}"
            return BundleError(what, where=str(path), todo="Copy that file beside it, under the same name.")
    return None


def library() -> Any:
    """Import onnxruntime. Raises: MissingDependencyError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise import_failure(error) from None
    return onnxruntime


def _spec(node: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else -1 for side in node.shape or ())
    return TensorSpec(node.name, shape, DTYPES.get(node.type, node.type))


runtime = OrtRuntime()
