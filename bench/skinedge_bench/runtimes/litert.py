"""LiteRT (TensorFlow Lite's successor) on the CPU, with its default XNNPACK delegate."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import BundleError, ConfigError
from skinedge.core.preprocess import Pixels
from skinedge.core.zip_file import open_zip, read_member
from skinedge.run.embedded_metadata import KEY
from skinedge.run.plugins import TensorSpec
from skinedge.system.requirements import import_failure
from skinedge_bench.runtimes.input_layout import Encoding, Layout
from skinedge_bench.runtimes.output_format import Output, last_operation
from skinedge_bench.runtimes.session import LABELS, FileSession, check_suffix, refusing
from skinedge_bench.runtimes.tflite_metadata import TfliteMetadata, read_metadata

MAX_METADATA = 1 << 20  # bytes, of a description or a label list

DELEGATE = "DELEGATE"


class LitertSession(FileSession):
    """One .tflite file in LiteRT; not thread-safe, since an interpreter owns its tensors.

    own: TFLite Metadata of a third-party file.
    """

    runtime = "LiteRT"

    def __init__(
        self,
        interpreter: Any,
        metadata: Mapping[str, str],
        own: TfliteMetadata,
        where: str,
    ) -> None:
        self._interpreter = interpreter
        self._details = _named_outputs(interpreter)
        details = interpreter.get_input_details()
        inputs = tuple(_spec(detail) for detail in details)
        outputs = tuple(replace(_spec(detail), name=name) for name, detail in self._details.items())
        self._in = details[0] if details else {"shape_signature": (), "quantization": (0, 0)}
        if -1 in self._in["shape_signature"][1:]:
            what = f"input '{inputs[0].name}' has no fixed size: {list(self._in['shape_signature'])}"
            raise ConfigError(what, where=where, todo="Convert the network again, with the size of its images.")
        encoding = Encoding(own.normalization, _scale(self._in) or None, int(self._in["quantization"][1]))
        super().__init__(Layout.of(inputs, metadata, where, encoding), inputs, outputs, metadata, where)
        self.notes = own.notes
        self.partitions, self.outside = _delegated(interpreter)

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        self._interpreter.set_tensor(self._in["index"], self.layout.arrange(pixels))
        self._interpreter.invoke()
        details = [self._details[spec.name] for spec in self._selected]
        return [_decode(self._interpreter.get_tensor(detail["index"]), detail) for detail in details]

    def _described(self) -> list[Output]:
        """See `FileSession._described`."""
        producers = _producers(self._interpreter)
        return [
            Output(spec, *last_operation(detail["index"], producers), scaled=_scale(detail) > 0)
            for spec, detail in zip(self.outputs, self._details.values(), strict=True)
        ]


def _scale(detail: Mapping[str, Any]) -> float:
    """Return the scale of a tensor, 0 if it is not quantized."""
    return float(detail["quantization"][0])


def _decode(scores: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    """Dequantize an output; other outputs are returned unchanged."""
    if scores.dtype.kind == "f" or not _scale(detail):
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
        check_suffix(path)
        with refusing(LitertSession.runtime, "load", str(path)):
            interpreter = interpreter_class(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
            return LitertSession(interpreter, *_metadata(path), str(path))


def _library() -> Any:
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise import_failure(error) from None
    return interpreter


def _metadata(path: Path) -> tuple[dict[str, str], TfliteMetadata]:
    """Read the description of a skinedge file; of another file, the label list and the TFLite Metadata."""
    texts = _appended(path, lambda name: name == f"{KEY}.json")
    if texts:
        return {KEY: texts[f"{KEY}.json"], **_labels(path, ())}, TfliteMetadata()
    own = read_metadata(path.read_bytes())
    return _labels(path, own.label_files), own


def _labels(path: Path, named: Collection[str]) -> dict[str, str]:
    """Read the label list: the file that the metadata names, else one with 'label' in its name."""
    files = _appended(path, lambda name: name in named or (name.endswith(".txt") and "label" in name))
    chosen = [files[name] for name in (*files, *named) if name in files]
    return {LABELS: chosen[-1]} if chosen else {}


def _appended(path: Path, wanted: Callable[[str], bool]) -> dict[str, str]:
    """Return name -> text of the wanted files in the zip archive appended to a file, {} without one."""
    if not zipfile.is_zipfile(path):
        return {}
    with open_zip(path, BundleError, "a .tflite file with metadata") as archive:
        names = [name for name in archive.namelist() if wanted(name)]
        return {name: read_member(archive, name, MAX_METADATA).decode() for name in names}


def _named_outputs(interpreter: Any) -> dict[str, Mapping[str, Any]]:
    """Return output name -> detail, in the graph's order, with the names of the signature if it names all outputs.

    A signature may name another tensor than the graph's output: the one before a final QUANTIZE.
    """
    details = interpreter.get_output_details()
    order = [detail["index"] for detail in details]
    for signature in list(interpreter.get_signature_list())[:1]:
        named = interpreter.get_signature_runner(signature).get_output_details()
        if sorted(detail["index"] for detail in named.values()) == sorted(order):
            return dict(sorted(named.items(), key=lambda item: order.index(item[1]["index"])))
    names = [detail["name"] for detail in details]
    return {
        name if names.count(name) == 1 else f"{name} ({i})": d
        for i, (name, d) in enumerate(zip(names, details, strict=True))
    }


def _delegated(interpreter: Any) -> tuple[int | None, tuple[str, ...] | None]:
    """Return the number of delegate nodes and the operations outside; None if this LiteRT version cannot list them.

    Executed nodes are those that the outputs depend on, where a tensor's producer is a delegate if one produces it.
    """
    nodes = _nodes(interpreter)
    if nodes is None:
        return None, None
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


def _producers(interpreter: Any) -> dict[int, tuple[str, list[int]]]:
    """Return tensor -> (the graph's operation that computes it, its inputs); {} if LiteRT cannot list them."""
    own = [node for node in _nodes(interpreter) or () if node["op_name"] != DELEGATE]
    return {
        int(tensor): (node["op_name"], list(map(int, node["inputs"]))) for node in own for tensor in node["outputs"]
    }


def _nodes(interpreter: Any) -> list[Mapping[str, Any]] | None:
    """List the graph's nodes, with those that a delegate replaced; None if this LiteRT version cannot list them."""
    return list(interpreter._get_ops_details()) if hasattr(interpreter, "_get_ops_details") else None


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(int(side) for side in detail["shape"])
    return TensorSpec(detail["name"], shape, np.dtype(detail["dtype"]).name)


runtime = LitertRuntime()
