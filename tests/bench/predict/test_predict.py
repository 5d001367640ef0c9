"""skinedge predict, by its command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.colour_vectors import profiles
from skinedge.core.colour import AS_STORED, SRGB
from skinedge.core.errors import BundleError
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import prepare
from skinedge.run.file_card import card_name, read_card
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import open_listed
from skinedge_bench.predict import resumable
from skinedge_bench.predict.predict import Predictor, predict, sources

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("b.png", "a.jpg"):
        Image.fromarray(rng.integers(0, 256, (90, 120, 3)).astype(np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_json_lines_have_the_outputs_of_the_session(cli: Cli, tiny_run: Path, images: Path) -> None:
    code, out, _ = cli("predict", images, "--run", tiny_run, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [Path(line["image"]).name for line in lines] == ["a.jpg", "b.png"]
    bundle = Bundle.open(tiny_run)
    model = open_listed(bundle)
    for line in lines:
        assert line["schema"] == "skinedge.predict/1"
        assert (line["model_id"], line["model_sha256"]) == (bundle.manifest.id, model.sha256)
        row = model.run(prepare(load_image(Path(line["image"])), model.size)[None]).probabilities[0]
        assert list(line["probabilities"]) == list(bundle.manifest.labels)
        np.testing.assert_allclose(list(line["probabilities"].values()), row, atol=1e-6)
        assert line["label"] == bundle.manifest.labels[int(row.argmax())]
        assert line["probability"] == pytest.approx(float(row.max()))
        expected = sum(line["probabilities"][bundle.manifest.labels[i]] for i in bundle.manifest.malignant)
        assert line["malignant_probability"] == pytest.approx(expected)


def test_the_terminal_shows_classes_score_melanoma_and_the_notice(cli: Cli, tiny_run: Path, images: Path) -> None:
    code, out, err = cli("predict", images / "a.jpg", "--run", tiny_run, "--top", 2)
    assert code == 0 and "not a medical device" in out
    assert "malignant or premalignant" in out and "threshold" in out and "melanoma 0." in out
    line = next(text for text in out.splitlines() if "a.jpg" in text)
    assert line.count(",") == 1
    assert "synthetic" in err


@pytest.mark.parametrize(("score", "word"), [(0.0, "FLAGGED"), (1.1, "below")])
def test_flagging_follows_the_manifests_threshold(cli: Cli, run: Bundle, images: Path, score: float, word: str) -> None:
    with run.stage("thresholds", "test", {}) as stage:
        stage.set(thresholds={"default": score})
    assert word in cli("predict", images / "a.jpg", "--run", run.root)[1]


def test_a_bad_image_gives_an_error_and_the_others_continue(cli: Cli, tiny_run: Path, images: Path) -> None:
    (images / "aa.jpg").write_bytes((images / "a.jpg").read_bytes()[:300])
    arguments = ("predict", images, images / "gone.jpg", "--run", tiny_run)
    code, out, err = cli(*arguments, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and ["error" in line for line in lines] == [False, True, False, True]
    assert "2 image(s)" in err and "Traceback" not in err
    assert set(lines[1]) == {"schema", "model_id", "model_sha256", "image", "error"}
    code, out, _ = cli(*arguments)
    assert code == 1 and "no such image" in out


@pytest.mark.parametrize("name", ["model.int8.tflite", "model.int8.onnx", "model.fp32.onnx"])
def test_the_number_of_processes_changes_no_bit(
    cli: Cli, run: Bundle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do the other images: an image alone has the same prediction."""
    monkeypatch.setattr(resumable, "usable_cores", lambda: 3)
    folder = Path(run.manifest.data_root)
    (bad := run.root / "bad.png").write_bytes(b"not an image")
    command = ("predict", folder, bad, folder, "--run", run.root, "--file", name, "--json")
    results = {jobs: cli(*command, *jobs)[:2] for jobs in ((), ("--jobs", 1), ("--jobs", 2), ("--jobs", 3))}
    assert len(set(results.values())) == 1
    code, shown = results["--jobs", 3]
    lines = shown.splitlines()
    assert code == 1 and len(lines) == 281 and "error" in json.loads(lines[140])
    alone = cli("predict", json.loads(lines[77])["image"], "--run", run.root, "--file", name, "--json")[1]
    assert alone.splitlines() == [lines[77]] == [lines[141 + 77]]


def test_a_model_file_that_is_replaced_during_the_command_is_an_error(run: Bundle) -> None:
    predictor = Predictor.of(open_listed(run))
    predictor.path.write_bytes(run.file("model.fp32.tflite").read_bytes())
    with pytest.raises(BundleError, match="changed after it was opened"):
        predictor.open()


def test_exif_rotation_is_respected(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    upright = np.zeros((80, 80, 3), dtype=np.uint8)
    upright[:40] = (200, 150, 120)
    Image.fromarray(upright).save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    _, out, _ = cli("predict", tmp_path / "upright.png", tmp_path / "turned.png", "--run", tiny_run, "--json")
    first, second = (json.loads(line)["probabilities"] for line in out.splitlines())
    assert first == pytest.approx(second)


def test_an_empty_folder_and_no_folder(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = cli("predict", tmp_path / "empty", "--run", tiny_run)
    assert code == 1 and "no images" in err


def test_a_synthetic_run_is_never_the_default(
    cli: Cli, run: Bundle, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    shutil.move(run.root, tmp_path / "runs" / "drawn")
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("predict", images / "a.jpg")
    assert code == 1 and out == "" and "synthetic" in err


def test_a_model_file_alone(cli: Cli, tiny_run: Path, images: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.tflite"
    shutil.copy(tiny_run / "model.int8.tflite", alone)
    code, out, err = cli("predict", images / "a.jpg", "--run", alone, "--json")
    whole = cli("predict", images / "a.jpg", "--run", tiny_run, "--file", "model.int8.tflite", "--json")[1]
    assert code == 0 and json.loads(out) == json.loads(whole) and "assumed" in err
    code, _, err = cli("predict", images / "a.jpg", "--run", alone, "--file", "model.int8.tflite")
    assert code == 1 and "--file" in err


def test_a_cpu_that_saturates_gives_a_warning(
    cli: Cli, tiny_run: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skinedge_bench.loaded_model.cpu_features", lambda: frozenset({"sse4_1", "avx2", "fma"}))
    warned = {}
    for name in ("model.int8.onnx", "model.fp32.onnx", "model.int8.tflite"):
        _, _, err = cli("predict", images / "a.jpg", "--run", tiny_run, "--file", name)
        warned[name] = "this x86 CPU has no VNNI" in err
    assert warned == {"model.int8.onnx": True, "model.fp32.onnx": False, "model.int8.tflite": False}


def test_a_third_party_file(cli: Cli, foreign: Callable[..., Path], images: Path) -> None:
    code, out, err = cli("predict", images / "a.jpg", "--run", foreign(), "--json")
    line = json.loads(out)
    assert code == 0 and line["malignant_probability"] is None and line["model_id"] is None
    assert set(line["probabilities"]) == {"class 0", "class 1", "class 2"} and "numbered" in err


def test_wrong_usage_exits_with_1(cli: Cli) -> None:
    assert cli("predict")[0] == 1
    assert cli("predict", "a.jpg", "--top", "0")[0] == 1


def test_colour_profiles_follow_the_rule_of_the_run(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    """A new run states its rule, and so do its files and their cards; the note counts each image once."""
    bundle = Bundle.open(tiny_run)
    model = open_listed(bundle)
    assert bundle.manifest.preprocess.colour == model.colour == SRGB
    assert read_card(tiny_run / card_name(model.name))["resize"]["colour"] == SRGB
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    for turn, name in ((0, "a.png"), (180, "b.png")):
        picture.rotate(turn).save(tmp_path / name, icc_profile=profiles()["Display P3"])
    Image.fromarray(load_image(tmp_path / "a.png")).save(tmp_path / "c.png")
    picture.rotate(90).save(tmp_path / "d.png", icc_profile=profiles()["lookup tables"])
    code, out, err = cli("predict", tmp_path, "--run", tiny_run, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and rows[0]["probabilities"] == rows[2]["probabilities"] != rows[1]["probabilities"]
    assert [line for line in err.splitlines() if "olour" in line] == [
        "2 images: colours converted to sRGB from the profile 'Display P3'",
        "1 image: colours as stored: the profile 'Display P3' is made of lookup tables and not converted",
    ]


def test_colour_profiles_are_ignored_by_runs_that_ignored_them_in_training(tmp_path: Path) -> None:
    flagship = Path(__file__).resolve().parents[3] / "skinedge" / "flagship"
    if not (flagship / "manifest.json").is_file():
        pytest.skip("no model ships with this checkout")
    model = open_listed(Bundle.open(flagship))
    assert model.colour == AS_STORED and "colour" not in read_card(flagship / card_name(model.name))["resize"]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png", icc_profile=profiles()["Display P3"])
    picture.save(tmp_path / "b.png")
    with_profile, plain = predict(model, sources([tmp_path / "a.png", tmp_path / "b.png"]))
    assert with_profile.probabilities is not None and plain.probabilities is not None
    np.testing.assert_array_equal(with_profile.probabilities, plain.probabilities)
