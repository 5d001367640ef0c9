"""Plots against scikit-learn; and a folder gets all of its files or none."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as oracle
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from skinedge.core.errors import BundleError, ConfigError
from skinedge.data.dataset import Sample
from skinedge.stats import metrics
from skinedge_bench.evaluate import plots
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.evaluate import Evaluation
from skinedge_bench.evaluate.selection import Selection

LABELS = ("_hidden", "$_$", "mel")  # names that matplotlib would omit, or parse as a (broken) formula
PRIOR = (0.2, 0.3, 0.5)  # assumed by the file: classes count the same only after dividing by it


def at_uniform(predictions: Predictions) -> np.ndarray:
    odds = predictions.probabilities / np.array(PRIOR)
    return odds / odds.sum(axis=1, keepdims=True)


def evaluation(
    n: int = 80, malignant: tuple[int, ...] | None = (2,), seen: Mapping[str, int] | None = None
) -> Evaluation:
    """n images, each of its own lesion; class 1 is rare."""
    rng = np.random.default_rng(6)
    truth = rng.choice(3, n, p=(0.5, 0.1, 0.4))
    probabilities = metrics.softmax(rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[truth])
    samples = tuple(Sample(f"{i}", f"{i}.jpg", LABELS[t], f"L{i}") for i, t in enumerate(truth))
    predictions = Predictions(LABELS, truth, probabilities, malignant, 0.5, PRIOR)
    return Evaluation("model.int8.tflite", True, predictions, Selection(Path(), samples, "test", seen))


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return evaluation()


def test_each_picture_is_a_png_that_is_not_empty(result: Evaluation) -> None:
    pictures = plots.draw(result)
    assert list(pictures) == ["confusion.png", "roc.png", "precision_recall.png", "reliability.png"]
    for name, content in pictures.items():
        image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert min(image.shape[:2]) > 500 and len(np.unique(image.reshape(-1, 3), axis=0)) > 20, name
        assert (image[[0, -1]] == 255).all() and (image[:, [0, -1]] == 255).all(), f"{name}: cut off at the edge"


@pytest.mark.parametrize("paint", [plots.confusion, plots.roc, plots.precision_recall, plots.reliability])
def test_each_title_names_file_images_and_warnings(paint: Callable[[Evaluation], Figure]) -> None:
    figure = paint(evaluation(seen={"train": 9}))
    title = figure.axes[0].get_title()
    assert "model.int8.tflite, n = 80 images, split test" in title and "Research tool, not a medical device" in title
    assert "SYNTHETIC" in title and "CONTAMINATED: trained on 9" in title
    assert figure.axes[0].get_ylabel() and figure.axes[-1].get_ylabel()
    assert "CONTAMINATED" not in paint(evaluation()).axes[0].get_title()


def test_roc_curves_are_those_of_scikit_learn(result: Evaluation) -> None:
    axes = plots.roc(result).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    predictions = result.predictions
    shown = [(f"  {name}", predictions.truth == i, at_uniform(predictions)[:, i]) for i, name in enumerate(LABELS)]
    for ending, positive, score in [*shown, ("malignant against benign", predictions.positive, predictions.score)]:
        (label,) = [label for label in lines if label.endswith(ending)]
        false, true, _ = oracle.roc_curve(positive, score, drop_intermediate=False)
        np.testing.assert_allclose(lines[label].get_xdata(), false)
        np.testing.assert_allclose(lines[label].get_ydata(), true)
        assert f"AUC {oracle.roc_auc_score(positive, score):.3f} [" in label
    point = lines["malignant score >= 0.500"]
    sensitivity = oracle.recall_score(predictions.positive, predictions.score >= 0.5)
    specificity = oracle.recall_score(~predictions.positive, predictions.score < 0.5)
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((1 - specificity, sensitivity))


def test_the_area_under_the_drawn_precision_recall_steps_is_average_precision(result: Evaluation) -> None:
    axes = plots.precision_recall(result).axes[0]
    predictions = result.predictions
    shown = [(f"  {name}", predictions.truth == i, at_uniform(predictions)[:, i]) for i, name in enumerate(LABELS)]
    for ending, positive, score in [*shown, ("malignant against benign", predictions.positive, predictions.score)]:
        (line,) = [line for line in axes.lines if str(line.get_label()).endswith(ending)]
        assert line.get_drawstyle() in ("steps", "steps-pre")
        recall, precision = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        area = float(np.sum(np.diff(recall) * precision[1:]))  # a step holds the value at its right end
        assert area == pytest.approx(oracle.average_precision_score(positive, score))
        assert f"AP {area:.3f} [" in str(line.get_label())
    (point,) = [line for line in axes.lines if str(line.get_label()).startswith("malignant score")]
    flagged = predictions.score >= 0.5
    assert point.get_xdata()[0] == pytest.approx(oracle.recall_score(predictions.positive, flagged))
    assert point.get_ydata()[0] == pytest.approx(oracle.precision_score(predictions.positive, flagged))


def test_every_curve_is_in_the_legend(result: Evaluation) -> None:
    legend = plots.roc(result).axes[0].get_legend()
    assert legend is not None
    entries = [text.get_text() for text in legend.get_texts()]
    assert len(entries) == 5 and all(any(name in entry for entry in entries) for name in LABELS)


def test_the_matrix_has_truth_in_rows(result: Evaluation) -> None:
    axes = plots.confusion(result).axes[0]
    expected = oracle.confusion_matrix(result.predictions.truth, result.predictions.predicted)
    cells = {t.get_position(): t.get_text() for t in axes.texts if isinstance(t, Text)}
    for (row, column), count in np.ndenumerate(expected):
        assert cells[column, row].split("\n")[0] == str(count)
    assert [t.get_text() for t in axes.get_xticklabels()] == list(LABELS)
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        f"{label} (n={n})" for label, n in zip(LABELS, expected.sum(axis=1), strict=True)
    ]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")


def test_the_bars_are_the_bins(result: Evaluation) -> None:
    above, below = plots.reliability(result).axes
    confidence = result.predictions.probabilities.max(axis=1)
    counts, _ = np.histogram(confidence, np.linspace(0, 1, 16))
    assert [bar.get_height() for bar in below.patches] == pytest.approx(list(counts))
    right = result.predictions.predicted == result.predictions.truth
    hits, _ = np.histogram(confidence[right], np.linspace(0, 1, 16))
    heights = np.array([bar.get_height() for bar in above.patches])
    np.testing.assert_allclose(heights[counts > 0], (hits / np.maximum(counts, 1))[counts > 0])
    sums, _ = np.histogram(confidence, np.linspace(0, 1, 16), weights=confidence)
    ece = np.abs(hits - sums).sum() / 80
    assert f"ECE {ece:.3f} on these images" in above.get_title()
    assert f"ECE {result.document['ece_at_class_prior']:.3f} at the class shares" in above.get_title()


def test_undefined_curves_are_not_drawn() -> None:
    """A single class has no curve; without known malignant classes there is no malignant curve."""
    alone = evaluation(malignant=None)
    assert not [line for line in plots.roc(alone).axes[0].lines if "malignant" in str(line.get_label())]
    truth = np.zeros(80, dtype=np.int64)
    predictions = Predictions(LABELS, truth, alone.predictions.probabilities, (2,), 2.0)
    single = Evaluation("m.onnx", False, predictions, alone.selection)
    assert len(plots.draw(single)) == 4
    axes = plots.precision_recall(single).axes[0]
    assert len(axes.lines) == 0 and "no curve" in axes.texts[0].get_text()


def test_a_folder_in_the_way_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "out" / "b").mkdir(parents=True)
    (tmp_path / "out" / "a").write_text("old")
    with pytest.raises(ConfigError, match="is a folder"):
        plots.write(tmp_path / "out", {"a": "new", "b": b"new"})
    assert (tmp_path / "out" / "a").read_text() == "old" and len(list((tmp_path / "out").iterdir())) == 2


def test_a_write_that_fails_leaves_no_folder_and_no_parts(tmp_path: Path) -> None:
    """The second name is longer than file systems allow."""
    for out in (tmp_path / "new", tmp_path):
        with pytest.raises(BundleError):
            plots.write(out, {"a": "new", "b" * 300: b"new"})
        assert list(tmp_path.iterdir()) == []
