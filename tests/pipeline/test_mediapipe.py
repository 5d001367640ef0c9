"""A real client: MediaPipe's ImageClassifier on our .tflite files, and its reader on their TFLite Metadata."""

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
    """bench/experiments/mediapipe_proof.py; the test is skipped, visibly, where MediaPipe is not installed."""
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
    found: list[Path] = proof.spread(find_images([real_images]), COUNT)
    return found


@pytest.mark.parametrize("name", ["model.fp32.tflite", "model.int8.tflite"])
def test_it_says_what_predict_says(
    proof: ModuleType, tiny_run: Path, photographs: list[Path], tmp_path: Path, name: str
) -> None:
    """The files as `skinedge export` wrote them, on real images of the model's input size."""
    size = Bundle.open(tiny_run).manifest.preprocess.size
    (found,) = proof.compare(tiny_run / name, proof.whole(proof.prepared(photographs, size, tmp_path)))
    assert found.n == COUNT and found.same >= 0.99 * COUNT, found
    assert found.largest <= 0.03, found


def test_it_says_what_the_shipped_model_says(proof: ModuleType, photographs: list[Path], tmp_path: Path) -> None:
    """A model that knows skin, so that labels differ from image to image."""
    if not SHIPPED.is_file():
        pytest.skip("no model is shipped")
    file = Path(shutil.copy(SHIPPED, tmp_path / SHIPPED.name))
    said = ModelDescription.from_json(open_file(file).session.metadata[KEY], "shipped")
    if b"TFLITE_METADATA" not in file.read_bytes():  # packed by an earlier version
        file.write_bytes(with_metadata(file.read_bytes(), said, ["probabilities"]))
        append_zip(file, said)
    (found,) = proof.compare(file, proof.whole(proof.prepared(photographs, said.preprocess.size, tmp_path)))
    assert found.same >= 0.99 * COUNT and found.largest <= 0.03, found
    assert found.classes >= 4


def test_it_takes_another_contract_and_files_with_more_outputs(
    proof: ModuleType, tiny_run: Path, photographs: list[Path], tmp_path: Path
) -> None:
    """Its own arithmetic makes the input of the bytes; its first answer is that of the probabilities."""
    from skinedge.training.merge import load_merged
    from skinedge_export.converter import ExportJob
    from skinedge_export.formats.tflite.convert import converter
    from skinedge_export.signature import IOSignature

    bundle, form = Bundle.open(tiny_run), IOSignature("google", logits=True, heatmap=True)
    said = describe(bundle.manifest, contract=form.contract)
    converter.convert(ExportJob(load_merged(bundle), said, converter.recipe("fp32"), form), tmp_path / "model.tflite")
    images = proof.prepared(photographs[::5], said.preprocess.size, tmp_path)
    (found,) = proof.compare(tmp_path / "model.tflite", proof.whole(images))
    assert found.same == found.n == COUNT // 5 and found.largest <= 1e-4, found


@pytest.fixture(scope="module")
def read(proof: ModuleType, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """contract -> the metadata of a file of that contract, as MediaPipe reads it; 'logits': of one with two outputs."""
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
    """The same file with what its softmax takes as one more output, before the other one in the graph's order."""
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


def test_its_reader_finds_what_was_written(read: dict[str, Any], tiny_run: Path) -> None:
    manifest = Bundle.open(tiny_run).manifest
    found = read["pixels"]
    assert (found["name"], found["version"], found["author"]) == (manifest.name, manifest.id, "skinedge")
    assert found["minParserVersion"] == "1.0.0"
    assert "not a medical device" in found["description"] and "SYNTHETIC" in found["description"]
    assert found["license"].startswith(manifest.license or "No licence")
    (graph,) = found["subgraphMetadata"]
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
def test_its_reader_finds_each_contracts_normalization(
    read: dict[str, Any], contract: str, mean: float, std: float, low: float, high: float
) -> None:
    (image,) = read[contract]["subgraphMetadata"][0]["inputTensorMetadata"]
    assert image["processUnits"] == [{"optionsType": 1, "options": {"mean": [mean], "std": [std]}}]
    assert image["stats"] == {"max": [high], "min": [low]}


def test_labels_stay_with_the_probabilities_wherever_they_stand(read: dict[str, Any]) -> None:
    first, second = read["logits"]["subgraphMetadata"][0]["outputTensorMetadata"]
    assert (first["name"], second["name"]) == ("logits", "probabilities")
    assert "associatedFiles" not in first and second["associatedFiles"][0]["name"] == "labels.txt"


def test_the_disagreement_on_other_sizes_is_printed(
    proof: ModuleType, tiny_run: Path, real_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How large it is depends on the model: `python bench/experiments/mediapipe_proof.py` measures it."""
    proof.report([tiny_run / "model.int8.tflite"], find_images([real_images])[:8])
    header, *rows = capsys.readouterr().out.splitlines()
    assert "same class" in header and len(rows) == 3
    assert all("model.int8.tflite" in row and "%" in row for row in rows)
    assert "prepared" in rows[0] and "100.0%" in rows[0] and "224x224" in rows[1]


def test_a_file_that_it_cannot_load_is_told(proof: ModuleType, tmp_path: Path) -> None:
    from skinedge.core.errors import SkinedgeError

    (tmp_path / "x.tflite").write_bytes(json.dumps("no model").encode())
    with pytest.raises(SkinedgeError, match="MediaPipe failed"):
        proof.ask([tmp_path / "x.tflite"], [])
