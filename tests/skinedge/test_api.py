"""The Python API: answers of the command line for every kind of image; threads, worker processes, an event loop."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import skinedge
from skinedge.core.errors import BundleError, ConfigError, DataError, GateError
from skinedge.core.image_file import image_pixels, load_image
from skinedge.publish import bundled_model
from skinedge.run.config import load_config
from skinedge_bench.classifier import Classifier

FILE = "model.int8.tflite"


@pytest.fixture(scope="module")
def classifier(tiny_run: Path) -> Classifier:
    return skinedge.load(tiny_run, FILE)


@pytest.fixture(scope="module")
def photos(synthetic_images: Path) -> list[Path]:
    return sorted(synthetic_images.rglob("*.jpg"))[:12]


def rows(predictions: list[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.stack([prediction.probabilities for prediction in predictions])


def test_every_name_is_typed_and_can_be_imported() -> None:
    tree = ast.parse(Path(skinedge.__file__).read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = [(alias.name, node.module) for node in typed.body if isinstance(node, ast.ImportFrom)
                for alias in node.names]  # fmt: skip
    assert dict(imported) == skinedge._MODULES and set(skinedge._MODULES) <= set(dir(skinedge))
    for name, module in imported:
        assert getattr(skinedge, name) is getattr(sys.modules[str(module)], name)
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        _ = skinedge.predict


def test_the_shipped_model_predicts_without_torch_and_without_output(tmp_path: Path) -> None:
    if not bundled_model.FOLDER.is_dir():
        pytest.skip("no model ships with this checkout")
    code = (
        "import sys, skinedge, numpy\nclassifier = skinedge.load()\n"
        "prediction = classifier.predict(numpy.full((300, 400, 3), 180, numpy.uint8))\n"
        "assert prediction.label in classifier.labels and 0 < classifier.threshold < 1\n"
        "assert prediction.flagged == (prediction.malignant_probability >= classifier.threshold)\n"
        "assert not {'torch', 'onnx', 'matplotlib', 'typer', 'rich'} & set(sys.modules), sorted(sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != bundled_model.VARIABLE}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_without_a_shipped_model_load_names_the_remedy() -> None:
    with pytest.raises(BundleError, match="no model ships with this package") as error:  # SKINEDGE_SHIPPED is ''
        skinedge.load()
    assert "SKINEDGE_SHIPPED" in str(error.value.todo)


def test_predictions_are_those_of_the_command_line(classifier: Classifier, tiny_run: Path, photos: list[Path]) -> None:
    from skinedge.cli import app

    result = CliRunner().invoke(app, ["predict", *map(str, photos), "--run", str(tiny_run / FILE), "--json"])
    expected = [json.loads(line) for line in result.stdout.splitlines()]
    predictions = classifier.predict(photos)
    assert len(expected) == len(photos)
    for prediction, line in zip(predictions, expected, strict=True):
        assert prediction.document().items() <= line.items()
    assert predictions[0].labels == classifier.labels == tuple(expected[0]["probabilities"])


KINDS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "pillow": Image.open,
    "bytes": Path.read_bytes,
    "array": load_image,
    "view": lambda path: np.ascontiguousarray(load_image(path)[:, ::-1])[:, ::-1],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_has_the_same_answer(kind: str, classifier: Classifier, photos: list[Path]) -> None:
    images = [KINDS[kind](photo) for photo in photos[:3]]
    expected = rows(classifier.predict(photos[:3]))
    np.testing.assert_array_equal(rows(classifier.predict(images)), expected)
    np.testing.assert_array_equal(classifier.predict(tuple(images))[1].probabilities, expected[1])
    np.testing.assert_array_equal(classifier.predict(images[2]).probabilities, expected[2])


@given(
    st.sampled_from(["RGB", "L", "LA", "RGBA", "P", "1", "I;16", "CMYK"]),
    st.integers(1, 8),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.integers(0, 2**32 - 1),
)
def test_an_opened_image_has_the_pixels_of_its_file(
    mode: str, orientation: int, size: tuple[int, int], seed: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4)).astype(np.uint8)
    image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257 if mode == "I;16" else noise)
    image = image if image.mode == mode else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    with Image.open(io.BytesIO(stream.getvalue())) as opened:
        np.testing.assert_array_equal(image_pixels(opened), load_image(stream.getvalue()))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"not an image: ndarray of float32 \(8, 8, 3\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"not an image: ndarray of uint8 \(2, 8, 8, 3\)"),
        (np.zeros((8, 8), np.uint8), r"not an image: ndarray of uint8 \(8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), "without pixels"),
        (np.zeros((1, 21, 3), np.uint8), "20 times as long as wide"),
        (np.broadcast_to(np.uint8(0), (8192, 6145, 3)), "larger than the limit"),
        (b"GIF89a", "image"),
        (None, "not an image: NoneType"),
        (Path("nowhere.jpg"), "nowhere.jpg: no such image"),
        (Path(), "not a regular file"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, message: str, classifier: Classifier, photos: list[Path]) -> None:
    for images in (image, [photos[0], image]):
        with pytest.raises(DataError, match=message):
            classifier.predict(images)


def test_explain_gives_the_heatmap_of_the_named_class(tiny_run: Path, photos: list[Path]) -> None:
    classifier = skinedge.load(tiny_run)
    with Image.open(photos[0]) as photo:
        first, second = classifier.explain([photos[0], photo], "mel", "gradcam")
    np.testing.assert_array_equal(first.map, second.map)
    assert classifier.labels[first.index] == "mel" and first.map.ndim == 2
    assert first.overlay().size == (64, 64) and first.overlay().mode == "RGB"
    single = classifier.explain(photos[0], method="gradcam")
    assert single.index == int(single.probabilities.argmax())
    with pytest.raises(ConfigError, match="no class 'freckles'"):
        classifier.explain(photos[0], "freckles")
    with pytest.raises(DataError, match="no such image"):
        classifier.explain(Path("nowhere.jpg"), "mel")


def test_threads_share_a_classifier(classifier: Classifier, photos: list[Path]) -> None:
    expected = rows(classifier.predict(photos))
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda _: rows(classifier.predict(photos)), range(8)):
            np.testing.assert_array_equal(answers, expected)


def test_an_event_loop_keeps_running(classifier: Classifier, photos: list[Path]) -> None:
    async def serve() -> list[Any]:
        other = asyncio.gather(*(asyncio.to_thread(classifier.predict, photo) for photo in photos))
        here = classifier.predict(photos[0])
        return [here, *await other]

    with ThreadPoolExecutor(1) as thread:  # the browser tests leave an event loop in the main one
        answers = rows(thread.submit(lambda: asyncio.run(serve())).result())
    np.testing.assert_array_equal(answers, rows(classifier.predict([photos[0], *photos])))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("file", ["model.int8.tflite", "model.fp32.onnx"])
def test_a_forked_worker_uses_the_parents_classifier(file: str, tiny_run: Path, photos: list[Path]) -> None:
    """Even if another thread of the parent was predicting during the fork."""
    classifier = skinedge.load(tiny_run, file)
    expected = classifier.predict(photos[0]).probabilities
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=lambda: sender.send(classifier.predict(photos[0]).probabilities))
    with classifier._session._slots[os.getpid()].lock:
        worker.start()
    assert answer_of(receiver, worker) == list(expected)


def answer_of(receiver: Connection, worker: Any) -> list[float]:
    try:
        assert receiver.poll(60), "the worker does not answer"
        return list(receiver.recv())
    finally:
        worker.kill()
        worker.join()


def test_a_spawned_worker_opens_the_same_file(classifier: Classifier, photos: list[Path]) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer = pool.apply(classifier.predict, (str(photos[0]),))
    np.testing.assert_array_equal(answer.probabilities, classifier.predict(photos[0]).probabilities)


def test_a_pickled_classifier_whose_file_has_changed_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copyfile(tiny_run / "model.int8.tflite", tmp_path / "model.tflite"))
    pickled = pickle.dumps(skinedge.load(alone))
    assert pickle.loads(pickled).model.path == alone
    shutil.copyfile(tiny_run / "model.fp32.tflite", alone)
    with pytest.raises(BundleError, match="changed after this classifier was pickled"):
        pickle.loads(pickled)


def test_stages_run_in_a_thread_print_nothing_on_stdout_and_leave_signals_alone(
    tiny_run: Path, synthetic_images: Path, tiny_config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    request = skinedge.TrainRequest(synthetic_images, run, load_config(tiny_config), resume=True)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def stages() -> tuple[Any, ...]:
        trained = skinedge.train(request)  # finished: returned as it is
        exported = skinedge.export(skinedge.merge(trained))
        evaluation = skinedge.evaluate(run, skinedge.EvaluationRequest(split="test", jobs=1))
        return exported, skinedge.verify(trained), evaluation, skinedge.load(run).explain

    with ThreadPoolExecutor(1) as pool:
        exported, parity, evaluation, _ = pool.submit(stages).result()
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
    assert capfd.readouterr().out == ""
    assert exported.has("model.int8.onnx") and set(parity.document()["files"]) >= {"model.int8.onnx"}
    assert exported.reload().has("reports/parity.json")
    assert evaluation.document["n"] == evaluation.predictions.truth.size > 0


def test_a_failed_gate_is_raised_on_request(tiny_run: Path) -> None:
    report = skinedge.verify(Path(tiny_run / "model.int8.tflite"), strict=True)
    assert report.passed == (report.failures() == [])
    if not report.passed:
        with pytest.raises(GateError, match=r"a gate failed|with --strict"):
            report.require_passed()
