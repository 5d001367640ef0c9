"""Model files of other tools in predict, verify, evaluate and bench: a result with its assumptions, or one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.matrix import onnx_files, tflite_files
from skinedge.core.errors import BundleError, ConfigError, SkinedgeError
from skinedge.run.file_trial import remember
from skinedge.run.plugins import judge_for
from skinedge_bench.latency.measure import open_all
from skinedge_bench.latency.probe import measure
from skinedge_bench.latency.targets import BenchRequest, file_targets
from skinedge_bench.loaded_model import open_file
from skinedge_bench.verify.verify import verify_file

Cli = Callable[..., tuple[int, str, str]]
QUICK = BenchRequest("quick")
COLOURS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))  # of the images of each class
LOGITS = np.array(COLOURS) / 255 @ onnx_files.WEIGHTS


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
BINARY = np.stack([1 - sigmoid(LOGITS[:, 0]), sigmoid(LOGITS[:, 0])], axis=1)


@dataclass(frozen=True)
class Expected:
    """Expected outcome. refused: part of the error, '' for a result; probabilities: of one image of each colour;

    says: part of a printed assumption; labels: as assumed; evaluate: part of the error of `evaluate`.
    """

    refused: str = ""
    says: str = ""
    probabilities: np.ndarray | None = None
    labels: tuple[str, ...] = ("class 0", "class 1", "class 2")
    evaluate: str = ""


PLAIN = Expected(probabilities=SOFTMAX, says="not normalized")
TWO = Expected(probabilities=BINARY, says="a binary classifier", labels=("negative", "positive"))
SEVERAL = Expected(
    probabilities=sigmoid(LOGITS), says="independent sigmoids (multi-label)", evaluate="do not exclude each other"
)
NO_SCORES = "no output has class scores"
OUTCOMES: dict[str, Expected] = {
    "softmax": PLAIN,
    "logits": Expected(probabilities=SOFTMAX, says="gives logits: their softmax is taken"),
    "log_softmax": Expected(probabilities=SOFTMAX, says="log-probabilities: their exponential is taken"),
    "sigmoids": SEVERAL,
    "int8_sigmoids": SEVERAL,
    "one_sigmoid": TWO,
    "one_sigmoid_flat": TWO,
    "one_logit": Expected(probabilities=BINARY, says="its sigmoid is taken", labels=TWO.labels),
    "one_class_softmax": Expected("is always 1: it is the softmax of one number"),
    "argmax": Expected(f"{NO_SCORES}: integers without a scale"),
    "integers": Expected(f"{NO_SCORES}: integers without a scale"),
    "scores_and_index": Expected(probabilities=SOFTMAX, says="'probabilities', not in 'class' int64"),
    "features_first": Expected(probabilities=SOFTMAX, says="'probabilities', not in 'features' float32"),
    "unnamed_outputs": Expected("several outputs could be the class scores"),
    "logits_and_softmax": Expected(probabilities=SOFTMAX, says="'probabilities', not in 'logits_out'"),
    "two_heads": Expected("several outputs could be the class scores"),
    "two_inputs": Expected("the file has 2 inputs"),
    "nchw": PLAIN,
    "grey": Expected("needs square RGB images"),
    "not_square": Expected("needs square RGB images"),
    "uint8_input": Expected(probabilities=SOFTMAX, says="as uint8"),
    "int8_input": Expected(probabilities=SOFTMAX, says="as int8, minus 128"),
    "int16_input": Expected("does not state the range of its pixels"),
    "int32_input": Expected(probabilities=SOFTMAX, says="as int32"),
    "int64_input": Expected(probabilities=SOFTMAX, says="as int64"),
    "float16_input": PLAIN,
    "double_input": PLAIN,
    "bool_input": Expected("not numbers"),
    "quantized_output": Expected(f"{NO_SCORES}: integers without a scale"),
    "uint8_output": PLAIN,
    "quantize_after_signature": PLAIN,
    "quantized_signature": PLAIN,
    "detector": Expected("this is an object detector"),
    "raw_detector": Expected(f"{NO_SCORES}: a classifier gives (N, C)"),
    "segmentation": Expected(f"{NO_SCORES}: a classifier gives (N, C)"),
    "old_opset": PLAIN,
    "batch_of_4": PLAIN,
    "any_size": Expected(probabilities=SOFTMAX, says="images of any size: 224 x 224"),
    "any_size_nchw": Expected(probabilities=SOFTMAX, says="images of any size: 224 x 224"),
    "any_size_tflite": Expected("has no fixed size"),
    "pooled": PLAIN,
    "no_batch": Expected("an output of shape (3,) for 1 images"),
    "texts": Expected(f"{NO_SCORES}: not numbers"),
    "vector": Expected("needs square RGB images"),
    "normalized": Expected(probabilities=SOFTMAX, says="TFLite Metadata says: (pixel - (127.5)) / (127.5)"),
    "normalized_int8": Expected(probabilities=SOFTMAX, says="TFLite Metadata says: (pixel - (127.5)) / (127.5)"),
    "normalized_int16": Expected(probabilities=SOFTMAX, says="TFLite Metadata says: (pixel - (127.5)) / (127.5)"),
    "normalized_channels": Expected(probabilities=SOFTMAX, says="(pixel - (0, 0, 0)) / (51, 51, 51)"),
    "normalized_integers": Expected("without a scale, so that the normalization"),
}


def centred(dtype: str = "float32", scale: tflite_files.Scale | None = None) -> tflite_files.Graph:
    """Return a classifier that takes (pixel - 127.5) / 127.5."""
    return tflite_files.classifier("SOFTMAX", dtype=dtype, scale=scale, black=-1, white=2)


def write(name: str, folder: Path) -> Path:
    """Write the file of a case, NAME.onnx or NAME.tflite."""
    stem, _, suffix = name.rpartition(".")
    path = folder / name
    both = tflite_files.image_metadata([127.5], [127.5])
    described: dict[str, Callable[[], Path]] = {
        "normalized": lambda: centred().save(path, described=both),
        "normalized_int8": lambda: centred("int8", (1 / 127, 0)).save(path, described=both),
        "normalized_int16": lambda: centred("int16", (1 / 32767, 0)).save(path, described=both),
        "normalized_integers": lambda: centred("int32").save(path, described=both),
        "normalized_channels": lambda: tflite_files.classifier("SOFTMAX", white=5).save(
            path, described=tflite_files.image_metadata([0, 0, 0], [51, 51, 51])
        ),
    }
    if suffix == "onnx":
        onnx_files.GRAPHS[stem]().save(path)
    else:
        described.get(stem, lambda: tflite_files.GRAPHS[stem]().save(path))()
    remember(path, judge_for(path))  # made here: no trial in a child process
    return path


CASES = [f"{name}.onnx" for name in onnx_files.GRAPHS if name in OUTCOMES]
CASES += [f"{name}.tflite" for name in OUTCOMES if name in tflite_files.GRAPHS or name.startswith("normalized")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files, and images/LABEL/*.png of one colour each, for the three classes."""
    root = tmp_path_factory.mktemp("foreign")
    for labels in (Expected().labels, ("positive", "negative")):
        for label, colour in zip(labels, COLOURS, strict=False):
            for index in range(2):
                path = root / f"images{len(labels)}" / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((16, 16 + index, 3), colour, np.uint8)).save(path)
    return root


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("SKINEDGE_CACHE", str(folder / "cache"))


def test_every_small_file_has_an_expected_outcome() -> None:
    assert set(onnx_files.GRAPHS) | set(tflite_files.GRAPHS) == {
        name for name in (*OUTCOMES, "not_numbers") if not name.startswith("normalized")
    }


@pytest.mark.parametrize("name", CASES)
def test_predict_verify_evaluate_and_bench_give_a_result_or_one_line(cli: Cli, folder: Path, name: str) -> None:
    expected, path = OUTCOMES[name.partition(".")[0]], write(name, folder)
    images = folder / f"images{len(expected.labels)}"
    commands = {
        "predict": ("predict", images, "--run", path, "--json", "--jobs", 1),
        "verify": ("verify", path, "--json"),
        "evaluate": ("evaluate", path, "--data", images, "--json", "--jobs", 1),
    }
    results = {command: cli(*arguments) for command, arguments in commands.items()}
    if expected.refused:
        for code, out, err in results.values():
            problem = [line for line in err.splitlines() if line.startswith("error")]
            assert code == 1 and out == "" and len(problem) == 1 and "Traceback" not in err
            assert expected.refused in problem[0] and str(path) in problem[0]
        with pytest.raises(SkinedgeError, match=re.escape(expected.refused)):
            file_targets([path], [], QUICK)
        return
    assert expected.probabilities is not None
    code, out, err = results["predict"]
    predictions = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and any(line.startswith("assumed:") and expected.says in line for line in err.splitlines())
    for index, label in enumerate(expected.labels):
        shown = [p for p in predictions if f"/{label}/" in p["image"]]
        place = index if len(expected.labels) == 3 else 1 - index  # the red images are positive
        for prediction in shown:
            assert tuple(prediction["probabilities"]) == expected.labels
            actual = list(prediction["probabilities"].values())
            np.testing.assert_allclose(actual, expected.probabilities[place], atol=0.02)
        assert len(shown) == 2
    code, out, err = results["verify"]
    document = json.loads(out)
    assert (code, document["passed"]) == (0, None) and expected.says in err
    assert document["files"][path.name]["verdict"] == "not measured"
    code, out, err = results["evaluate"]
    if expected.evaluate:
        assert code == 1 and expected.evaluate in err and "Traceback" not in err
    else:
        assert code == 0 and json.loads(out)["n"] == 2 * len(expected.labels) and json.loads(out)["accuracy"] == 1
    for target in file_targets([path], [], QUICK):
        sessions, missing = open_all([target])
        size = 8 if "any_size" not in name else 32
        row = sessions[target.key].run(np.full((1, size, size, 3), 200, np.uint8)).probabilities
        assert row.shape == (1, len(expected.labels)) and not missing
    assert measure(target.runtime.name, path, 1, target.output_format).first_inference_ms > 0


def made(path: Path) -> Path:
    """Spare a file that was written here its trial in a child process."""
    remember(path, judge_for(path))
    return path


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_an_output_is_chosen_by_the_number_of_labels_or_by_the_user(cli: Cli, tmp_path: Path, suffix: str) -> None:
    module = {"onnx": onnx_files, "tflite": tflite_files}[suffix]
    names = ("StatefulPartitionedCall:0", "StatefulPartitionedCall:1")
    path = made(module.with_features(names).save(tmp_path / f"model.{suffix}"))
    Image.fromarray(np.full((8, 8, 3), COLOURS[0], np.uint8)).save(tmp_path / "red.png")
    command = ("predict", tmp_path / "red.png", "--run", path, "--json")
    code, _, err = cli(*command)
    assert code == 1 and "--output NAME" in err and all(f"'{name}' float32" in err for name in names)
    code, out, err = cli(*command, "--output", names[1])
    document = json.loads(out)
    assert code == 0 and document["output"] == {"name": names[1], "kind": "probabilities"}
    np.testing.assert_allclose(list(document["probabilities"].values()), SOFTMAX[0], atol=1e-5)
    assert open_file(path, output=names[0]).output_format.classes == 16
    code, _, err = cli(*command, "--output", "gone")
    assert code == 1 and "no output 'gone'" in err and names[0] in err
    for other in (("verify", path), ("evaluate", path, "--data", tmp_path), ("bench", path, "--protocol", "quick")):
        code, _, err = cli(*other)
        assert code == 1 and "--output NAME" in err
    assert cli("verify", path, "--output", names[1])[0] == 0
    labels = "nevus\nmelanoma\nbcc"
    labelled = {"onnx": lambda: {"labels": labels}, "tflite": lambda: {"labels": labels}}[suffix]()
    model = open_file(made(module.with_features(names).save(tmp_path / f"labelled.{suffix}", **labelled)))
    assert model.labels == ("nevus", "melanoma", "bcc") and model.output_format.name == names[1]
    assert model.malignant == (1, 2) and model.melanoma == 1
    two = module.with_features(names).save(tmp_path / f"two.{suffix}", labels="a\nb")
    with pytest.raises(ConfigError, match="lists 2 labels, and no output has as many"):
        open_file(made(two))


def test_an_output_is_not_named_for_a_skinedge_file(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for command in (
        ("predict", tmp_path / "a.png", "--run", tiny_run / "model.int8.onnx"),
        ("verify", tiny_run),
        ("verify", tiny_run / "model.int8.onnx"),
        ("evaluate", tiny_run),
        ("bench", tiny_run, "--protocol", "quick"),
    ):
        code, _, err = cli(*command, "--output", "probabilities")
        assert code == 1 and "--output" in err and ("of other tools" in err or "of another tool" in err)


@pytest.mark.parametrize(
    ("labels", "expected", "melanoma"),
    [
        ("benign\nmelanoma", ("benign", "melanoma"), 1),
        ("melanoma", ("not melanoma", "melanoma"), 1),
        (None, ("negative", "positive"), None),
    ],
)
def test_the_classes_of_one_sigmoid(
    tmp_path: Path, labels: str | None, expected: tuple[str, ...], melanoma: int | None
) -> None:
    metadata = {} if labels is None else {"labels": labels}
    model = open_file(made(onnx_files.one_logit().save(tmp_path / "one.onnx", **metadata)))
    assert (model.labels, model.melanoma) == (expected, melanoma)
    red = np.full((1, 8, 8, 3), COLOURS[0], np.uint8)
    np.testing.assert_allclose(model.run(red).probabilities[0], BINARY[0], atol=1e-6)
    assert (labels == "benign\nmelanoma") == any("'melanoma', the second label" in note for note in model.assumptions)


def test_three_labels_do_not_fit_one_sigmoid(tmp_path: Path) -> None:
    path = made(onnx_files.one_logit().save(tmp_path / "one.onnx", labels="a\nb\nc"))
    with pytest.raises(ConfigError, match="lists 3 labels but has 2 outputs"):
        open_file(path)


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_repeated_labels_get_their_number(cli: Cli, folder: Path, tmp_path: Path, suffix: str) -> None:
    """As "crane" and "maillot" of ImageNet: each keeps its own probability, and a benchmark runs."""
    module = {"onnx": onnx_files, "tflite": tflite_files}[suffix]
    last = {"onnx": "Softmax", "tflite": "SOFTMAX"}[suffix]
    path = made(module.classifier(last).save(tmp_path / f"m.{suffix}", labels="crane\nmaillot\ncrane\n"))
    model = open_file(path)
    assert model.labels == ("crane (class 0)", "maillot", "crane (class 2)")
    assert any("more than once" in note and "crane" in note for note in model.assumptions)
    code, out, _ = cli("predict", folder / "images3" / "class 2" / "0.png", "--run", path, "--json")
    document = json.loads(out)
    assert code == 0 and document["label"] == "crane (class 2)" and len(document["probabilities"]) == 3
    assert file_targets([path], [], QUICK)[0].labels == model.labels
    literal = module.classifier(last).save(tmp_path / f"n.{suffix}", labels="a\na\na (class 1)")
    assert len(set(open_file(made(literal)).labels)) == 3


def test_two_melanoma_labels_are_no_error(tmp_path: Path) -> None:
    labels = "melanoma\nMelanoma (malignant)\nnevus"
    model = open_file(made(onnx_files.classifier("Softmax").save(tmp_path / "m.onnx", labels=labels)))
    assert model.malignant == (0, 1) and model.melanoma is None


def test_a_multi_label_file_is_resumed_and_never_called_exclusive(cli: Cli, folder: Path, tmp_path: Path) -> None:
    path, out = write("sigmoids.onnx", tmp_path), tmp_path / "out.jsonl"
    images = folder / "images3"
    command = ("predict", images, "--run", path, "--out", out, "--jobs", 1)
    assert cli(*command)[0] == 0
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:3]))
    code, _, err = cli(*command, "--resume")
    assert code == 0 and "resuming after 3" in err and out.read_bytes() == b"".join(lines)
    assert json.loads(lines[0])["output"]["kind"] == "multi-label"
    _, shown, _ = cli("predict", images, "--run", path, "--jobs", 1)
    assert shown.count("(independent)") == 6 and "malignant or premalignant" not in shown


def test_predictions_of_another_output_are_not_continued(cli: Cli, folder: Path, tmp_path: Path) -> None:
    path, out = write("two_heads.onnx", tmp_path), tmp_path / "out.jsonl"
    command = ("predict", folder / "images3", "--run", path, "--out", out, "--jobs", 1, "--output")
    assert cli(*command, "lesion")[0] == 0
    code, _, err = cli(*command, "body_site", "--resume")
    assert code == 1 and "made with another model (output" in err


def test_workers_read_the_same_output(cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skinedge_bench.predict.resumable.usable_cores", lambda: 2)
    path = write("two_heads.onnx", tmp_path)
    command = ("predict", folder / "images3", "--run", path, "--output", "body_site", "--json", "--jobs")
    assert cli(*command, 2) == cli(*command, 1)


@pytest.mark.parametrize(("actual", "named"), [("tflite", "onnx"), ("onnx", "tflite")])
def test_a_wrong_suffix_is_named(tmp_path: Path, actual: str, named: str) -> None:
    path = write(f"softmax.{actual}", tmp_path).rename(tmp_path / f"model.{named}")
    with pytest.raises(ConfigError, match=rf"an {actual.upper()} file with the suffix \.{named}") as raised:
        open_file(path)
    assert f"model.{actual}" in str(raised.value)


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_truncated_file_is_named(cli: Cli, tmp_path: Path, suffix: str) -> None:
    path = write(f"softmax.{suffix}", tmp_path)
    path.write_bytes(path.read_bytes()[:300])
    for command in (("verify", path), ("bench", path, "--protocol", "quick")):
        code, out, err = cli(*command)
        assert code == 1 and out == "" and str(path) in err and "Traceback" not in err


def test_missing_external_weights_are_named(cli: Cli, tmp_path: Path) -> None:
    path = made(onnx_files.external(tmp_path / "external.onnx"))
    code, _, err = cli("verify", path)
    assert code == 1 and "weights.bin" in err and "Traceback" not in err


def test_the_trial_runs_files_whose_output_is_in_doubt(tmp_path: Path) -> None:
    """In a child process, before anything is known about the outputs; scalars among them do no harm."""
    doubtful = onnx_files.two_heads(("lesion", "body_site"), "Identity").save(tmp_path / "doubt.onnx")
    assert open_file(doubtful, output="lesion").output_format.kind == "logits"
    with pytest.raises(ConfigError, match="object detector"):
        open_file(onnx_files.detector().save(tmp_path / "detector.onnx"))


def test_an_output_without_numbers_is_an_error_of_every_image(cli: Cli, folder: Path, tmp_path: Path) -> None:
    path, images = write("not_numbers.onnx", tmp_path), folder / "images3"
    code, out, err = cli("predict", images, "--run", path, "--jobs", 1)
    assert code == 1 and out.count("error: the model gave no numbers") == 6 and "6 image(s)" in err
    code, out, err = cli("verify", path, "--json")
    assert code == 1 and json.loads(out)["passed"] is False and "finite failed" in err
    code, _, err = cli("evaluate", path, "--data", images, "--jobs", 1)
    assert code == 1 and "no numbers" in err and "Traceback" not in err


def test_a_label_file_of_any_name_is_found_by_the_metadata(tmp_path: Path) -> None:
    """AutoML's files call it dict.txt."""
    path = tmp_path / "model.tflite"
    described = tflite_files.image_metadata([0], [1], label_file="dict.txt", calibrated=True)
    made(tflite_files.classifier("SOFTMAX").save(path, "nevus\nmelanoma\nbcc", described, label_file="dict.txt"))
    model = open_file(path)
    assert model.labels == ("nevus", "melanoma", "bcc")
    assert "the score calibration of the file's TFLite Metadata is not applied" in model.assumptions


def test_a_quantized_softmax_over_many_classes_is_no_multi_label(tmp_path: Path) -> None:
    """1,000 probabilities, each rounded to 1/256: their sum is far from 1."""
    graph = tflite_files.Graph()
    graph.dense(np.random.default_rng(0).normal(size=(3, 1000)), "many")
    graph.add("SOFTMAX", ["many"], "real", [1, 1000])
    graph.add("QUANTIZE", ["real"], "scores", [1, 1000], "uint8", (1 / 256, 0))
    model = open_file(made(graph.output("scores").save(tmp_path / "many.tflite")))
    assert model.output_format.kind == "probabilities"
    assert abs(model.run(np.full((1, 8, 8, 3), 200, np.uint8)).probabilities.sum() - 1) > 0.03
    assert verify_file(model.path).passed


def test_files_of_other_tools_are_benchmarked(cli: Cli, tmp_path: Path) -> None:
    several, one = write("sigmoids.onnx", tmp_path), write("int8_input.tflite", tmp_path)
    code, out, err = cli("bench", several, "--with", one, "--protocol", "quick", "--runtime", "onnxruntime",
                         "--runtime", "litert", "--json")  # fmt: skip
    rows = json.loads(out)["rows"]
    assert code == 0 and "Traceback" not in err and [row["p50_ms"] > 0 for row in rows] == [True, True]
    assert "independent sigmoids" in err and "int8, minus 128" in err


def test_a_card_beside_a_file_of_another_tool_is_an_error(tiny_run: Path, tmp_path: Path) -> None:
    """The file that the card describes was replaced."""
    path = write("softmax.onnx", tmp_path)
    card = (tiny_run / "model.fp32.onnx.skinedge.json").read_text()
    path.with_name("softmax.onnx.skinedge.json").write_text(card)
    with pytest.raises(BundleError, match="belongs to another file"):
        open_file(path)
