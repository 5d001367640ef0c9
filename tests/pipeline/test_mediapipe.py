"""A real client: MediaPipe's ImageClassifier on our .tflite files, and its reader of TFLite Metadata."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from skinedge.core.input_format import CONTRACTS
from skinedge.run.embedded_metadata import KEY, ModelDescription, describe
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import open_file
from skinedge_bench.predict.predict import find_images
from skinedge_export.formats.metadata import append_zip
from skinedge_export.formats.tflite.metadata import with_metadata

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "skinedge" / "flagship" / "model.int8.tflite"
COUNT = 200


@pytest.fixture(scope="module")
def proof() -> Iterator[ModuleType]:
    """Import bench/experiments/mediapipe_proof.py; skip the test, visibly, where MediaPipe is not installed."""
    spec = importlib.util.spec_from_file_location(
        "mediapipe_proof", REPOSITORY / "bench/experiments/mediapipe_proof.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not module.PYTHON.is_file():
        pytest.skip(f"no MediaPipe at {module.PYTHON}: make mediapipe")
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def photographs(proof: ModuleType, real_images: Path) -> list[Path]:
    images: list[Path] = proof.spread(find_images([real_images]), COUNT)
    return images


@pytest.mark.parametrize("name", ["model.fp32.tflite", "model.int8.tflite"])
def test_mediapipe_agrees_with_predict(
    proof: ModuleType, tiny_run: Path, photographs: list[Path], tmp_path: Path, name: str
) -> None:
    """On real images of the model's input size, with files written by `skinedge export`."""
    size = Bundle.open(tiny_run).manifest.preprocess.size
    (comparison,) = proof.compare(tiny_run / name, proof.whole(proof.prepared(photographs, size, tmp_path)))
    assert comparison.n == COUNT and comparison.same >= 0.99 * COUNT, comparison
    assert comparison.largest <= 0.03, comparison


def test_mediapipe_agrees_on_the_bundled_model(proof: ModuleType, photographs: list[Path], tmp_path: Path) -> None:
    """A model trained on skin images, so that labels differ from image to image."""
    if not SHIPPED.is_file():
        pytest.skip("no model is shipped")
    file = Path(shutil.copy(SHIPPED, tmp_path / SHIPPED.name))
    description = ModelDescription.from_json(open_file(file).session.metadata[KEY], "shipped")
    if b"TFLITE_METADATA" not in file.read_bytes():  # packed by an earlier version
        file.write_bytes(with_metadata(file.read_bytes(), description, ["probabilities"]))
        append_zip(file, description)
    images = proof.whole(proof.prepared(photographs, description.preprocess.size, tmp_path))
    (comparison,) = proof.compare(file, images)
    assert comparison.same >= 0.99 * COUNT and comparison.largest <= 0.03, comparison
    assert comparison.classes >= 4


def test_mediapipe_runs_another_contract_and_files_with_more_outputs(
    proof: ModuleType, tiny_run: Path, photographs: list[Path], tmp_path: Path
) -> None:
    """It normalizes the pixels itself; its first result is that of the probabilities."""
    from skinedge.training.merge import load_merged
    from skinedge_export.converter import ExportJob
    from skinedge_export.formats.tflite.convert import converter
    from skinedge_export.signature import IOSignature

    bundle, signature = Bundle.open(tiny_run), IOSignature("google", logits=True, heatmap=True)
    description = describe(bundle.manifest, contract=signature.contract)
    job = ExportJob(load_merged(bundle), description, converter.recipe("fp32"), signature)
    converter.convert(job, tmp_path / "model.tflite")
    images = proof.prepared(photographs[::5], description.preprocess.size, tmp_path)
    (comparison,) = proof.compare(tmp_path / "model.tflite", proof.whole(images))
    assert comparison.same == comparison.n == COUNT // 5 and comparison.largest <= 1e-4, comparison


@pytest.fixture(scope="module")
def metadata(proof: ModuleType, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """contract -> the metadata of a file of that contract, read by MediaPipe; 'logits': of a file with two outputs."""
    folder, manifest = tmp_path_factory.mktemp("read"), Bundle.open(tiny_run).manifest
    content = (tiny_run / "model.fp32.tflite").read_bytes()
    files = {name: with_metadata(content, describe(manifest, contract=name), ["probabilities"]) for name in CONTRACTS}
    files["logits"] = with_metadata(logits_first(content), describe(manifest), ["probabilities", "logits"])
    paths = {name: folder / f"{name}.tflite" for name in files}
    for name, path in paths.items():
        path.write_bytes(files[name])
    answers = proof.ask(list(paths.values()), [])["files"]
    return {name: answers[str(path)]["metadata"] for name, path in paths.items()}


def logits_first(content: bytes) -> bytes:
    """Return the file with the input of its softmax as another output, before the first in the graph's order."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    last = next(op for op in graph.operators if list(op.outputs) == list(graph.outputs))
    graph.outputs = [int(last.inputs[0]), int(graph.outputs[0])]
    signature.outputs.append(schema.TensorMapT(b"logits", graph.outputs[0]))
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_mediapipe_reads_the_written_metadata(metadata: dict[str, Any], tiny_run: Path) -> None:
    manifest = Bundle.open(tiny_run).manifest
    written = metadata["pixels"]
    assert (written["name"], written["version"], written["author"]) == (manifest.name, manifest.id, "skinedge")
    assert written["minParserVersion"] == "1.0.0"
    assert "not a medical device" in written["description"] and "SYNTHETIC" in written["description"]
    assert written["license"].startswith(manifest.license or "No licence")
    (graph,) = written["subgraphMetadata"]
    (image,), (scores,) = graph["inputTensorMetadata"], graph["outputTensorMetadata"]
    assert image["content"] == {"contentPropertiesType": 2, "contentProperties": {"colorSpace": 1}}
    assert scores["name"] == "probabilities"
    (labels,) = scores["associatedFiles"]
    assert (labels["name"], labels["type"]) == ("labels.txt", 2)
    assert "processUnits" not in scores  # calibrated in the graph: no calibration of scores after it


@pytest.mark.parametrize(
    ("contract", "mean", "std", "low", "high"),
    [("pixels", 0, 1, 0, 255), ("google", 127.5, 127.5, -1, 1), ("qualcomm", 0, 255, 0, 1), ("uint8", 0, 1, 0, 255)],
)
def test_mediapipe_reads_the_normalization_of_each_contract(
    metadata: dict[str, Any], contract: str, mean: float, std: float, low: float, high: float
) -> None:
    (image,) = metadata[contract]["subgraphMetadata"][0]["inputTensorMetadata"]
    assert image["processUnits"] == [{"optionsType": 1, "options": {"mean": [mean], "std": [std]}}]
    assert image["stats"] == {"max": [high], "min": [low]}


def test_labels_belong_to_the_probabilities_in_any_output_order(metadata: dict[str, Any]) -> None:
    first, second = metadata["logits"]["subgraphMetadata"][0]["outputTensorMetadata"]
    assert (first["name"], second["name"]) == ("logits", "probabilities")
    assert "associatedFiles" not in first and second["associatedFiles"][0]["name"] == "labels.txt"


def test_the_disagreement_on_other_sizes_is_printed(
    proof: ModuleType, tiny_run: Path, real_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its size depends on the model: `python bench/experiments/mediapipe_proof.py` measures it."""
    proof.report([tiny_run / "model.int8.tflite"], find_images([real_images])[:8])
    header, *rows = capsys.readouterr().out.splitlines()
    assert "same class" in header and len(rows) == 3
    assert all("model.int8.tflite" in row and "%" in row for row in rows)
    assert "prepared" in rows[0] and "100.0%" in rows[0] and "224x224" in rows[1]


def test_a_file_that_mediapipe_cannot_load_is_an_error(proof: ModuleType, tmp_path: Path) -> None:
    from skinedge.core.errors import SkinedgeError

    (tmp_path / "x.tflite").write_bytes(json.dumps("no model").encode())
    with pytest.raises(SkinedgeError, match="MediaPipe failed"):
        proof.ask([tmp_path / "x.tflite"], [])
