"""LiteRT (TensorFlow Lite's successor) on the CPU, with its default XNNPACK delegate."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import BundleError
from skinedge.core.preprocess import Pixels
from skinedge.core.zip_file import open_zip, read_member
from skinedge.run.embedded_metadata import KEY
from skinedge.run.plugins import TensorSpec
from skinedge.system.requirements import import_failure
from skinedge_bench.runtimes.litert_log import silence
from skinedge_bench.runtimes.session import FileSession, Layout, refusing

MAX_METADATA = 1 << 20  # bytes, of a description or a label list

DELEGATE = "DELEGATE"


class LitertSession(FileSession):
    """One .tflite file in LiteRT; not thread-safe, since an interpreter owns its tensors."""

    runtime = "LiteRT"

    def __init__(self, interpreter: Any, metadata: Mapping[str, str], where: str) -> None:
        self._interpreter = interpreter
        self._in = interpreter.get_input_details()[0]
        details = _named_outputs(interpreter)
        inputs = tuple(_spec(detail) for detail in interpreter.get_input_details())
        outputs = tuple(replace(_spec(detail), name=name) for name, detail in details.items())
        spec = inputs[0] if KEY in metadata else replace(inputs[0], dtype="uint8")  # third-party: see `_encode`
        super().__init__(Layout.of(spec, metadata, where), inputs, outputs, metadata, where)
        self.partitions, self.outside = _delegated(interpreter)
        self._out = [details[output.name] for output in self._selected]

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        arranged = self._layout.arrange(pixels)
        self._interpreter.set_tensor(self._in["index"], arranged if self._names else self._encode(arranged))
        self._interpreter.invoke()
        return [self._decode(self._interpreter.get_tensor(detail["index"]), detail) for detail in self._out]

    def _encode(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Convert bytes for a third-party file; a quantized input gets bytes, since its scale is its normalization."""
        dtype = np.dtype(self._in["dtype"])
        if dtype.kind == "f":
            return np.asarray(pixels, dtype=dtype)
        return (pixels.astype(np.int32) + np.iinfo(dtype).min).astype(dtype)

    def _decode(self, scores: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
        """Dequantize an output; float outputs are returned unchanged."""
        if scores.dtype.kind == "f":
            return scores
        scale, zero = detail["quantization"]
        return np.asarray((scores.astype(np.float32) - zero) * scale)


class LitertRuntime:
    """Runs .tflite files."""

    name = "litert"
    suffixes = (".tflite",)
    optional = False

    def version(self) -> str:
        """See `Runtime.version`."""
        from importlib.metadata import version

        _library()
        return version("ai-edge-litert")

    def open(self, path: Path, threads: int) -> LitertSession:
        """See `Runtime.open`."""
        interpreter_class = _library().Interpreter
        if not path.is_file():
            raise BundleError("no such model file", where=str(path))
        with refusing(LitertSession.runtime, "load", str(path)):
            interpreter = interpreter_class(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
            return LitertSession(interpreter, _metadata(path), str(path))


@functools.cache
def _library() -> Any:
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise import_failure(error) from None
    silence(interpreter)
    return interpreter


def _metadata(path: Path) -> dict[str, str]:
    """Read the texts in the zip archive appended to the file: the description, and a label file with any name."""
    texts: dict[str, str] = {}
    if not zipfile.is_zipfile(path):
        return texts
    with open_zip(path, BundleError, "a .tflite file with metadata") as archive:
        for name in archive.namelist():
            if name == f"{KEY}.json":
                texts[KEY] = read_member(archive, name, MAX_METADATA).decode()
            elif name.endswith(".txt") and "label" in name:
                texts["labels"] = read_member(archive, name, MAX_METADATA).decode()
    return texts


def _named_outputs(interpreter: Any) -> dict[str, Mapping[str, Any]]:
    """Return output name -> detail, with the names of the signature if the file has one, else of the tensors."""
    details = interpreter.get_output_details()
    signatures = interpreter.get_signature_list()
    if not signatures:
        return {detail["name"]: detail for detail in details}
    named = interpreter.get_signature_runner(next(iter(signatures))).get_output_details()
    order = [detail["index"] for detail in details]
    return dict(sorted(named.items(), key=lambda item: order.index(item[1]["index"])))


def _delegated(interpreter: Any) -> tuple[int | None, tuple[str, ...] | None]:
    """Return the number of delegate nodes and the operations outside; None if this LiteRT version cannot list them.

    The graph still lists nodes that a delegate replaced. Executed nodes are those that the outputs depend on, where a
    tensor's producer is a delegate if one produces it.
    """
    if not hasattr(interpreter, "_get_ops_details"):
        return None, None
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == DELEGATE]
    ordered = sorted(nodes, key=lambda node: node["op_name"] == DELEGATE)  # delegates override others
    producers = {int(tensor): node for node in ordered for tensor in node["outputs"]}
    pending = [int(detail["index"]) for detail in interpreter.get_output_details()]
    executed: dict[int, str] = {}
    while pending:
        node = producers.get(pending.pop())
        if node is not None and node["index"] not in executed:
            executed[node["index"]] = node["op_name"]
            pending += map(int, node["inputs"])
    outside = [executed[index] for index in sorted(executed) if executed[index] != DELEGATE]
    return len(delegates), tuple(dict.fromkeys(outside))


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(int(side) for side in detail["shape"])
    return TensorSpec(detail["name"], shape, np.dtype(detail["dtype"]).name)


runtime = LitertRuntime()
