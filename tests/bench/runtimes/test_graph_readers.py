"""The readers of ONNX graphs and TFLite Metadata: against the schema's own reader, and on damaged files."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import onnx
import pytest

from experiments.matrix import onnx_files, tflite_files
from skinedge_bench.runtimes import onnx_graph
from skinedge_bench.runtimes.input_layout import Normalization
from skinedge_bench.runtimes.tflite_metadata import TfliteMetadata, read_metadata

DAMAGED = (ValueError, IndexError, struct.error)  # what `session.refusing` turns into one line, with any other


@pytest.mark.parametrize("name", onnx_files.GRAPHS)
def test_operations_are_those_of_the_onnx_package(tmp_path: Path, name: str) -> None:
    path = onnx_files.GRAPHS[name]().save(tmp_path / "model.onnx", labels="a")
    expected = [(node.op_type, tuple(node.input), tuple(node.output)) for node in onnx.load(path).graph.node]
    assert [(node.operation, node.inputs, node.outputs) for node in onnx_graph.nodes(path.read_bytes())] == expected
    assert onnx_graph.external_files(path.read_bytes()) == set()


def test_files_with_weights_are_listed(tmp_path: Path) -> None:
    content = onnx_files.external(tmp_path / "model.onnx").read_bytes()
    assert onnx_graph.external_files(content) == {"weights.bin"}


@pytest.mark.parametrize(("mean", "std"), [([127.5], [128.0]), ([123.0, 117.0, 104.0], [58.0, 57.0, 57.5])])
def test_metadata_is_read_as_it_was_written(tmp_path: Path, mean: list[float], std: list[float]) -> None:
    path = tflite_files.classifier().save(tmp_path / "m.tflite", described=tflite_files.image_metadata(mean, std))
    expected = TfliteMetadata(Normalization(tuple(mean), tuple(std)), ("labels.txt",))
    assert read_metadata(path.read_bytes()) == expected
    assert read_metadata(tflite_files.classifier().content()) == TfliteMetadata()


@pytest.mark.parametrize(("mean", "std"), [([1.0, 2.0], [1.0]), ([0.0], [0.0]), ([0.0], []), ([0.0], [float("nan")])])
def test_a_normalization_that_cannot_be_computed_is_an_error(
    tmp_path: Path, mean: list[float], std: list[float]
) -> None:
    path = tflite_files.classifier().save(tmp_path / "m.tflite", described=tflite_files.image_metadata(mean, std))
    with pytest.raises(ValueError, match="normalization has mean"):
        read_metadata(path.read_bytes())


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with a few other bits and numbers."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) - 4)
        if rng.random() < 0.3:
            changed[at] ^= 1 << rng.randrange(8)
        else:
            number = rng.choice((0, 1, 2**32 - 1, 2**31 - 1, len(data), rng.randrange(2 * len(data))))
            changed[at : at + 4] = struct.pack("<I", number)
    return bytes(changed)


def test_damaged_files_are_read_or_refused_at_once(tmp_path: Path) -> None:
    rng, refused = random.Random(3), 0
    described = tflite_files.image_metadata([1, 2, 3], [4, 5, 6])
    tflite = tflite_files.classifier("SOFTMAX").save(tmp_path / "m.tflite", described=described).read_bytes()
    model = onnx_files.external(tmp_path / "m.onnx").read_bytes()
    started = time.process_time()
    for _ in range(400):
        damaged = mutated(model, rng)
        for read, content in (
            (onnx_graph.nodes, damaged),
            (onnx_graph.external_files, damaged),
            (read_metadata, mutated(tflite, rng)),
        ):
            try:
                read(content)
            except DAMAGED:
                refused += 1
    assert 100 < refused < 1100 and time.process_time() - started < 20
