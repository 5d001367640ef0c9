"""LiteRT (TensorFlow Lite's successor) on the CPU, with its default XNNPACK delegate."""

from __future__ import annotations

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
from skinedge_bench.runtimes.session import FileSession, Layout, refusing

MAX_METADATA = 1 << 20  # bytes of a description or a list of labels

DELEGATE = "DELEGATE"


class LitertSession(FileSession):
    """One .tflite file in LiteRT. For one thread at a time: an interpreter owns its tensors."""

    runtime = "LiteRT"

    def __init__(self, interpreter: Any, metadata: Mapping[str, str], where: str) -> None:
        self._interpreter = interpreter
        self._in = interpreter.get_input_details()[0]
        details = _named_outputs(interpreter)
        inputs = tuple(_spec(detail) for detail in interpreter.get_input_details())
        outputs = tuple(replace(_spec(detail), name=name) for name, detail in details.items())
        fed = inputs[0] if KEY in metadata else replace(inputs[0], dtype="uint8")  # a stranger's: see `_encode`
        super().__init__(Layout.of(fed, metadata, where), inputs, outputs, metadata, where)
        self.partitions, self.outside = _delegated(interpreter)
        self._out = [details[spec.name] for spec in self._wanted]

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        arranged = self._layout.arrange(pixels)
        self._interpreter.set_tensor(self._in["index"], arranged if self._names else self._encode(arranged))
        self._interpreter.invoke()
        return [self._decode(self._interpreter.get_tensor(detail["index"]), detail) for detail in self._out]

    def _encode(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """0..255 for a stranger: its scale speaks of its own normalization, so a quantized input gets the bytes."""
        dtype = np.dtype(self._in["dtype"])
        if dtype.kind == "f":
            return np.asarray(pixels, dtype=dtype)
        return (pixels.astype(np.int32) + np.iinfo(dtype).min).astype(dtype)

    def _decode(self, scores: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
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
        from importlib.metadata import version

        _library()
        return version("ai-edge-litert")

    def open(self, path: Path, threads: int) -> LitertSession:
        interpreter_class = _library().Interpreter
        if not path.is_file():
            raise BundleError("no such model file", where=str(path))
        with refusing(LitertSession.runtime, "load", str(path)):
            interpreter = interpreter_class(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
            return LitertSession(interpreter, _metadata(path), str(path))


def _library() -> Any:
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise import_failure(error) from None
    return interpreter


def _metadata(path: Path) -> dict[str, str]:
    """The texts of the zip that is appended to the file: the description, and a label file of any name."""
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
    """Output name -> detail: by the signature's names where the file has one, else by the tensors'."""
    details = interpreter.get_output_details()
    signatures = interpreter.get_signature_list()
    if not signatures:
        return {detail["name"]: detail for detail in details}
    found = interpreter.get_signature_runner(next(iter(signatures))).get_output_details()
    order = [detail["index"] for detail in details]
    return dict(sorted(found.items(), key=lambda item: order.index(item[1]["index"])))


def _delegated(interpreter: Any) -> tuple[int | None, tuple[str, ...] | None]:
    """Return how many nodes are delegates, and which operations run outside; None where this version cannot tell.

    The graph still lists the nodes that a delegate replaced. What runs is what the outputs depend on, where a tensor
    comes from a delegate if one gives it.
    """
    if not hasattr(interpreter, "_get_ops_details"):
        return None, None
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == DELEGATE]
    ordered = sorted(nodes, key=lambda node: node["op_name"] == DELEGATE)  # a delegate's claim to a tensor comes last
    source = {int(tensor): node for node in ordered for tensor in node["outputs"]}
    wanted = [int(detail["index"]) for detail in interpreter.get_output_details()]
    running: dict[int, str] = {}
    while wanted:
        node = source.get(wanted.pop())
        if node is not None and node["index"] not in running:
            running[node["index"]] = node["op_name"]
            wanted += map(int, node["inputs"])
    outside = [running[index] for index in sorted(running) if running[index] != DELEGATE]
    return len(delegates), tuple(dict.fromkeys(outside))


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(int(side) for side in detail["shape"])
    return TensorSpec(detail["name"], shape, np.dtype(detail["dtype"]).name)


runtime = LitertRuntime()
