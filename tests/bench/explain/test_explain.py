"""skinedge explain on the command line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import manifest, model_info, training
from PIL import Image

from skinedge.core.files import sha256
from skinedge.core.preprocess import Preprocess
from skinedge.network import model as networks
from skinedge.run import plugins
from skinedge.run.embedded_metadata import describe
from skinedge.run.manifest import MODEL
from skinedge.run.run_directory import Bundle
from skinedge.training.merge import save_network
from skinedge_bench.explain.explain import Failure, explain
from skinedge_bench.explain.saliency import Explainer
from skinedge_bench.loaded_model import open_file
from skinedge_bench.predict.predict import sources
from skinedge_export.converter import ExportJob
from skinedge_export.signature import IOSignature

Cli = Callable[..., tuple[int, str, str]]
LABELS = ("mel", "nv", "bkl")
FILE = "model.fp32.heatmap.onnx"


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small untrained network: its merged weights, and an ONNX file with a heatmap of 5 x 5 cells."""
    import torch

    root = tmp_path_factory.mktemp("explained") / "run"
    root.mkdir()
    run_manifest = manifest(
        labels=LABELS,
        taxonomy={"mel": "malignant", "nv": "benign", "bkl": "benign"},
        class_prior=dict.fromkeys(LABELS, 1 / 3),
        preprocess=Preprocess(160),
        training=training(LABELS),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = networks.build("test_efficientnet", len(LABELS))
    bundle = Bundle.create(root, run_manifest)
    with bundle.stage("merge", "test", {}) as stage:
        save_network(stage.path(MODEL, precision="fp32"), network, run_manifest)
    converter = plugins.load(plugins.CONVERTERS, "onnx")
    job = ExportJob(network, describe(run_manifest), converter.recipe("fp32"), IOSignature(heatmap=True))
    with bundle.stage("export", "test", {"model": sha256(root / MODEL)}) as stage:
        converter.convert(job, stage.path(FILE, **model_info("onnx")))
        stage.set(default_file=FILE)
    return root


@pytest.fixture
def no_heatmap(explained: Path, tmp_path: Path) -> Path:
    """The same run, its file without the heatmap."""
    import onnx

    root = Path(shutil.copytree(explained, tmp_path / "no_heatmap"))
    file = onnx.load(root / FILE)
    del file.graph.output[1]
    with Bundle.open(root).stage("export", "test", {"model": sha256(root / MODEL)}) as stage:
        onnx.save(file, stage.path("model.fp32.onnx", **model_info("onnx")))
        stage.set(default_file="model.fp32.onnx")
    return root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "more/A.png"):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((240, 180), Image.Resampling.NEAREST).save(folder / name)
    return folder


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "timm", "pytorch_grad_cam"):
        monkeypatch.setitem(sys.modules, name, None)


def documents(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_gradcam_and_the_heatmap_of_the_file_agree(cli: Cli, explained: Path, images: Path, tmp_path: Path) -> None:
    """And both agree with `predict`."""
    out = tmp_path / "new" / "out"
    arguments = (images, "--run", explained, "--out", out, "--json")
    code, text, err = cli("explain", *arguments)
    assert code == 0 and "Grad-CAM" in err and MODEL in err
    by_gradient = documents(text)
    by_file = documents(cli("explain", *arguments, "--method", "cam")[1])
    predicted = documents(cli("predict", images, "--run", explained, "--json")[1])
    assert len(predicted) == 3
    for one, other, said in zip(by_gradient, by_file, predicted, strict=True):
        assert one["schema"] == "skinedge.explain/1" and one["model_id"] == said["model_id"]
        assert (one["method"], other["method"]) == ("gradcam", "cam") and one["cells"] == other["cells"] == [5, 5]
        assert one["image"] == other["image"] == said["image"]
        assert one["label"] == other["label"] == said["label"] == one["class"] == other["class"]
        for key in ("minimum", "maximum", "probability", "class_probability"):
            assert one[key] == pytest.approx(other[key], rel=1e-3, abs=1e-4), key
        assert other["probability"] == said["probability"] and other["model_sha256"] == said["model_sha256"]
        with Image.open(str(one["picture"])) as first, Image.open(str(other["picture"])) as second:
            assert first.size == second.size and first.width > 2 * 448
            facts = json.loads(first.info["skinedge"])
            assert facts["maximum"] == one["maximum"] and facts["image"] == Path(str(one["image"])).name
            panels = [np.asarray(image.crop((0, 94, image.width, 94 + 448))).astype(int) for image in (first, second)]
            assert np.abs(panels[0] - panels[1]).max() <= 2
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(Path(str(d["picture"])).name for d in (*by_gradient, *by_file)) and len(names) == 6


def test_the_output_has_class_probability_and_picture(cli: Cli, explained: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, err = cli("explain", images / "a.jpg", "--run", explained, "--class", "bkl", "--out", out)
    assert code == 0 and "not a medical device" in text and "Traceback" not in err
    assert "a.jpg: bkl 0." in text and str(out / "a.bkl.gradcam.png") in text
    assert [path.name for path in out.iterdir()] == ["a.bkl.gradcam.png"]


def test_each_method_and_each_kind_of_file(cli: Cli, explained: Path, images: Path, tmp_path: Path) -> None:
    def method(*arguments: object) -> object:
        code, text, _ = cli("explain", images / "a.jpg", *arguments, "--out", tmp_path / "out", "--json")
        assert code == 0
        return documents(text)[0]["method"]

    assert method("--run", explained, "--method", "gradcam++") == "gradcam++"
    assert method("--run", explained, "--file", FILE) == "cam"
    assert method("--run", explained / FILE) == "cam"
    assert method("--run", explained, "--file", MODEL) == "gradcam"
    alone = Path(shutil.copy(explained / MODEL, tmp_path / "alone.safetensors"))
    assert method("--run", alone) == "gradcam"


def test_without_torch_the_heatmap_of_the_file_is_used(
    cli: Cli, explained: Path, no_heatmap: Path, images: Path, tmp_path: Path, no_torch: None
) -> None:
    out = tmp_path / "out"
    code, text, err = cli("explain", images / "a.jpg", "--run", explained, "--out", out, "--json")
    assert code == 0 and documents(text)[0]["method"] == "cam" and "class activation map" in err
    both = Bundle.open(no_heatmap)
    code, text, err = cli("explain", images / "a.jpg", "--run", both.root, "--out", tmp_path / "none")
    assert code == 1 and text == "" and "skinedge export" in err and "--heatmap" in err and "torch" in err
    assert not (tmp_path / "none").exists()
    code, _, err = cli("explain", images / "a.jpg", "--run", explained, "--method", "gradcam", "--out", out)
    assert code == 1 and "torch" in err and "pip install" in err


def test_a_run_that_was_packed_without_its_network(cli: Cli, explained: Path, images: Path, tmp_path: Path) -> None:
    """As the bundled model: the heatmap of its file is used, and nothing fails where torch is installed."""
    root = Path(shutil.copytree(explained, tmp_path / "packed"))
    text = json.loads((root / "manifest.json").read_text())
    text["stages"].pop("merge")
    (root / "manifest.json").write_text(json.dumps(text))
    (root / MODEL).unlink()
    out = ("--out", tmp_path / "out", "--json")
    code, said, _ = cli("explain", images / "a.jpg", "--run", root, *out)
    assert code == 0 and documents(said)[0]["method"] == "cam"
    code, _, err = cli("explain", images / "a.jpg", "--run", root, "--method", "gradcam", *out)
    assert code == 1 and MODEL in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "reasons"),
    [
        (("--class", "spots"), ("spots", "mel, nv, bkl")),
        (("--method", "lime"), ("lime", "gradcam, gradcam++")),
        (("--method", "gradcam", "--file", FILE), ("gradients", "--method cam")),
        (("--method", "cam", "--file", MODEL), ("heatmap", "skinedge export")),
        (("--file", "model.int8.tflite"), ("no file 'model.int8.tflite'",)),
    ],
)
def test_wrong_arguments_are_errors_before_anything_is_written(
    cli: Cli, explained: Path, images: Path, tmp_path: Path, arguments: tuple[str, ...], reasons: tuple[str, ...]
) -> None:
    code, text, err = cli("explain", images, "--run", explained, *arguments, "--out", tmp_path / "out")
    assert code == 1 and text == "" and "Traceback" not in err and not (tmp_path / "out").exists()
    for reason in reasons:
        assert reason in err


def test_a_bad_image_is_an_error_and_the_others_are_explained(
    cli: Cli, explained: Path, images: Path, tmp_path: Path
) -> None:
    (images / "aa.jpg").write_bytes((images / "a.jpg").read_bytes()[:300])
    arguments = ("explain", images, images / "gone.jpg", "--run", explained, "--method", "cam", "--out", tmp_path / "o")
    code, text, err = cli(*arguments, "--json")
    lines = documents(text)
    assert code == 1 and ["error" in line for line in lines] == [False, True, False, False, True]
    assert "2 image(s)" in err and "Traceback" not in err and len(list((tmp_path / "o").iterdir())) == 3
    assert set(lines[1]) == {"schema", "model_id", "model_sha256", "image", "error"}
    code, text, _ = cli(*arguments)
    assert code == 1 and "no such image" in text


def test_names_do_not_collide_and_other_files_stay(cli: Cli, explained: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.png").write_text("mine")
    shutil.copy(images / "b.png", images / "more" / "a-2.png")
    arguments = ("explain", images, "--run", explained, "--method", "cam", "--class", "nv", "--out", out)
    assert cli(*arguments)[0] == 0
    expected = {"a.nv.cam.png", "b.nv.cam.png", "A-2.nv.cam.png", "a-2-2.nv.cam.png", "mine.png"}
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(first) == expected and first["mine.png"] == b"mine"
    assert first["a.nv.cam.png"] != first["A-2.nv.cam.png"]
    assert cli(*arguments)[0] == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_out_must_not_lie_in_a_folder_of_images(cli: Cli, explained: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, reason in ((images / "out", "next time"), (images, "next time"), (tmp_path / "file", "folder")):
        before = sorted(images.rglob("*"))
        code, text, err = cli("explain", images, "--run", explained, "--out", out)
        assert code == 1 and text == "" and reason in err
        assert sorted(images.rglob("*")) == before
    code, _, err = cli("explain", images / "a.jpg", "--run", explained, "--out", tmp_path / "file" / "deeper")
    assert code == 1 and "cannot write" in err and "Traceback" not in err


def test_a_phone_photo_is_prepared_as_predict_does(cli: Cli, explained: Path, tmp_path: Path) -> None:
    upright = np.zeros((160, 200, 3), dtype=np.uint8)
    upright[:80, :100] = (200, 150, 120)
    Image.fromarray(upright).save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    photos = (tmp_path / "upright.png", tmp_path / "turned.png")
    text = cli("explain", *photos, "--run", explained, "--method", "cam", "--out", tmp_path / "out", "--json")[1]
    first, second = documents(text)
    assert first["maximum"] == second["maximum"]
    with Image.open(str(second["picture"])) as picture:
        assert picture.getpixel((60, 130)) == (200, 150, 120) and picture.getpixel((440, 500)) == (0, 0, 0)


def test_a_heatmap_with_nan_is_an_error_of_its_image(explained: Path, images: Path) -> None:
    model = open_file(explained / FILE)
    broken = Explainer(model, "gradcam", lambda pixels, classes: np.full((len(pixels), 5, 5), np.nan, np.float32))
    (result,) = explain(broken, sources([images / "a.jpg"]), None)
    assert isinstance(result, Failure) and "no numbers" in result.error


def test_the_picture_tells_little_and_no_evidence(explained: Path, images: Path) -> None:
    from skinedge_bench.explain.explain import Explanation, words

    explainer = Explainer(open_file(explained / FILE), "cam")
    (result,) = explain(explainer, sources([images / "a.jpg"]), "nv")
    assert isinstance(result, Explanation)
    assert words(result, explainer, "notice").evidence == "evidence for nv"
    for low, high, stronger in ((-1.0, 4.0, False), (-4.0, 1.0, True)):
        mixed = replace(result, map=np.array([[low, high]], np.float32))
        assert ("stronger" in words(mixed, explainer, "notice").notes[1]) == stronger
    assert words(result, explainer, "notice").notes[3].startswith("A frame along the border can come")
    framed = np.pad(np.ones((3, 3), np.float32) - np.pad(np.ones((1, 1), np.float32), 1), 1)
    assert "evidence lies in the second ring" in words(replace(result, map=framed), explainer, "notice").notes[3]
    against = replace(result, map=-np.ones((5, 5), np.float32))
    assert words(against, explainer, "notice").evidence == "no evidence for nv in this image"


def test_wrong_usage_exits_with_1(cli: Cli) -> None:
    assert cli("explain")[0] == 1
