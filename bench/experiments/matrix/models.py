"""Model files of other tools: a right result, or one line that says why there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.fuzz.case import Outcome
from experiments.matrix import onnx_files, tflite_files
from experiments.matrix.cell import Cell, Expected, Plan, nothing_wrong, one_line, works, works_or_one_line
from experiments.matrix.photos import write_photos

IMAGE, TOLERANCE = "image.png", 0.006  # of a probability quantized to 1/256
QUICK = ("sigmoids", "one_sigmoid", "argmax", "features_first", "two_heads", "two_inputs", "int8_input", "detector")
COLOURS = np.random.default_rng(5).integers(0, 256, (onnx_files.SIDE, onnx_files.SIDE, 3)).astype(np.uint8)
COLOURS[..., 0] |= 128  # reddish: the first class is the most probable
LOGITS = (COLOURS.mean(axis=(0, 1)) / 255) @ onnx_files.WEIGHTS
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum()
SIGMOIDS = 1 / (1 + np.exp(-LOGITS))
Values = NDArray[np.floating[Any]]


def gives(values: Values, outcome: Outcome, work: Path) -> str | None:
    """Compare the probabilities of the classes with those of the graph."""
    probabilities = list(json.loads(outcome.stdout)["probabilities"].values())
    if len(probabilities) != len(values) or np.abs(np.array(probabilities) - values).max() > TOLERANCE:
        return f"{np.round(probabilities, 3)} instead of {np.round(values, 3)}"
    return None


def gives_binary(outcome: Outcome, work: Path) -> str | None:
    """Look for the probability of the only output among those of the classes."""
    numbers = [value for value in json.loads(outcome.stdout)["probabilities"].values() if value is not None]
    close = any(abs(number - SIGMOIDS[0]) < TOLERANCE for number in numbers)
    return None if close else f"{np.round(numbers, 3)}, without {SIGMOIDS[0]:.3f}"


SCORES, EITHER = works(partial(gives, SOFTMAX)), works_or_one_line(partial(gives, SOFTMAX))
BINARY = works(gives_binary, "binary")
# graph -> expected outcome of `predict`; of the same name in both formats
EXPECTED: Mapping[str, Expected] = {
    **dict.fromkeys(("softmax", "logits", "log_softmax", "nchw", "old_opset", "batch_of_4"), SCORES),
    **dict.fromkeys(
        ("uint8_input", "int8_input", "int32_input", "int64_input", "float16_input", "double_input"), SCORES
    ),
    **dict.fromkeys(("uint8_output", "quantize_after_signature", "quantized_signature"), SCORES),
    **dict.fromkeys(("not_square", "any_size", "any_size_nchw", "pooled", "int16_input"), EITHER),
    **dict.fromkeys(
        ("argmax", "one_class_softmax", "bool_input", "detector", "raw_detector", "segmentation"), one_line()
    ),
    **dict.fromkeys(("not_numbers", "texts", "vector", "integers"), one_line()),
    **dict.fromkeys(("sigmoids", "int8_sigmoids"), works(partial(gives, SIGMOIDS), "multi-label")),
    **dict.fromkeys(("one_sigmoid", "one_sigmoid_flat"), BINARY),
    **dict.fromkeys(
        ("scores_and_index", "features_first", "logits_and_softmax"), works(SCORES.invariant, "probabilities")
    ),
    "one_logit": works_or_one_line(gives_binary),
    "unnamed_outputs": works_or_one_line(partial(gives, SOFTMAX), "--output"),
    "quantized_output": one_line("integers without a scale"),
    "two_heads": one_line("--output"),
    "two_inputs": one_line("age"),
    "no_batch": one_line("for 1 images"),
    "any_size_tflite": one_line("has no fixed size"),
    "grey": works_or_one_line(partial(gives, np.full(3, 1 / 3))),
}
Write = Callable[[Path], object]


def cells(plan: Plan) -> list[Cell]:
    """Return a cell for each file."""
    graph_cells = list(graphs())
    if plan.quick:
        return [cell for cell in graph_cells if cell.name.split(", ")[0] in QUICK]
    return [*graph_cells, *described(), *commands(), *damaged()]


def predicted(name: str, file: str, write: Write, expected: Expected) -> Cell:
    """Return the cell of a file whose errors must name it."""
    names = None if expected.names is None else (*expected.names, file)
    command = ("predict", IMAGE, "--run", file, "--jobs", "1", "--json")
    return Cell(name, (command,), Expected(expected.invariant, names, expected.says), partial(_write, file, write))


def _write(file: str, write: Write, work: Path) -> None:
    Image.fromarray(COLOURS).save(work / IMAGE)
    write(work / file)


def graphs() -> Iterator[Cell]:
    """Yield every kind of input and output."""
    for name, make in onnx_files.GRAPHS.items():
        yield predicted(f"{name}, ONNX", "other.onnx", lambda path, make=make: make().save(path), EXPECTED[name])
    for name, build in tflite_files.GRAPHS.items():
        yield predicted(f"{name}, TFLite", "other.tflite", lambda path, build=build: build().save(path), EXPECTED[name])


def described() -> Iterator[Cell]:
    """Yield label lists and normalization in a file's metadata."""
    label_lists = {
        "labels": "melanoma\nnevus\nbcc\n",
        "labels that nobody knows": "cat\ndog\ncrane\n",
        "two equal labels": "crane\ncat\ncrane\n",
        "labels with CRLF": "melanoma\r\nnevus\r\nbcc\r\n",
    }
    for name, labels in label_lists.items():
        yield predicted(f"{name}, TFLite", "a.tflite", partial(_classifier, labels), SCORES)
    yield predicted("two labels too few, TFLite", "a.tflite", partial(_classifier, "melanoma\n"), EITHER)
    for name, mean, std in (("-1..1", 127.5, 127.5), ("0..1", 0.0, 255.0), ("0..255", 0.0, 1.0)):
        graph = partial(tflite_files.classifier, "SOFTMAX", black=-mean / std, white=255 / std)
        metadata = tflite_files.image_metadata([mean] * 3, [std] * 3)
        yield predicted(
            f"normalization {name}, TFLite", "a.tflite",
            lambda path, graph=graph, metadata=metadata: graph().save(path, described=metadata), SCORES,
        )  # fmt: skip


def _classifier(labels: str, path: Path) -> None:
    tflite_files.classifier("SOFTMAX").save(path, labels)


def commands() -> Iterator[Cell]:
    """Yield the other commands that take a file."""
    alone = "nothing to compare with"
    for name, file, write in (
        ("softmax, ONNX", "a.onnx", lambda path: onnx_files.classifier("Softmax").save(path)),
        ("two equal labels, TFLite", "a.tflite", partial(_classifier, "crane\ncat\ncrane\n")),
        ("one_sigmoid, TFLite", "a.tflite", lambda path: tflite_files.one_logit().save(path)),
    ):
        prepare = partial(_write, file, write)
        yield Cell(f"verify, {name}", (("verify", file),), works_or_one_line(nothing_wrong, "not measured"), prepare)
        yield Cell(f"verify --strict, {name}", (("verify", file, "--strict"),), one_line(alone), prepare)
        bench = ("bench", file, "--protocol", "quick", "--threads", "1", "--json")
        yield Cell(f"bench, {name}", (bench,), works(_has_latency), prepare)
    evaluate = ("evaluate", "a.tflite", "--data", "data", "--split", "all", "--jobs", "1", "--out", "out")
    yield Cell("evaluate, TFLite", (evaluate,), works(nothing_wrong), _with_data)
    layers = ("verify", "a.onnx", "--layers")
    yield Cell("verify --layers, ONNX", (layers,), one_line("a.onnx"), partial(_write, "a.onnx",
               lambda path: onnx_files.classifier().save(path)))  # fmt: skip


def _has_latency(outcome: Outcome, work: Path) -> str | None:
    rows = json.loads(outcome.stdout)["rows"]
    return None if rows and all(row["p50_ms"] > 0 for row in rows) else f"rows {rows}"


def _with_data(work: Path) -> None:
    _classifier("melanoma\nnevus\nbcc\n", work / "a.tflite")
    write_photos(work / "data", [f"{label}/{label}{n}.png" for label in ("melanoma", "nevus", "bcc") for n in range(4)])


def damaged() -> Iterator[Cell]:
    """Yield files that are no model, or not in full."""
    for suffix, other in (("onnx", "tflite"), ("tflite", "onnx")):
        content = partial(_content, suffix)
        file = f"a.{suffix}"
        yield predicted(
            f"truncated .{suffix}", file, lambda p, w=content: p.write_bytes(w()[: len(w()) // 2]), one_line()
        )
        yield predicted(f".{suffix} named .{other}", f"a.{other}", lambda p, w=content: p.write_bytes(w()), one_line())
        for name, content in (
            ("empty file", b""),
            ("page of a web server", b"<html>404</html>"),
            ("zeros", bytes(4096)),
        ):
            yield predicted(f"{name} named .{suffix}", file, lambda p, c=content: p.write_bytes(c), one_line())
    for suffix in ("pt", "h5", "pb", "bin", "zip"):
        yield predicted(f".{suffix}", f"a.{suffix}", lambda path: path.write_bytes(b"x" * 99), one_line())
    yield predicted("weights in a missing file, ONNX", "a.onnx", onnx_files.external, one_line())
    for opset, ir in ((27, 10), (18, 13)):
        write = partial(_newer, opset, ir)
        yield predicted(f"opset {opset}, IR {ir}, ONNX", "a.onnx", write, works_or_one_line(partial(gives, SOFTMAX)))
    yield predicted("a missing file", "a.onnx", lambda path: None, one_line())


def _content(suffix: str) -> bytes:
    path = Path(f"whole.{suffix}")
    (onnx_files.classifier("Softmax") if suffix == "onnx" else tflite_files.classifier("SOFTMAX")).save(path)
    return path.read_bytes()


def _newer(opset: int, ir: int, path: Path) -> None:
    graph = onnx_files.classifier("Softmax")
    graph.opset, graph.ir = opset, ir
    graph.save(path)
