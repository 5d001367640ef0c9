"""Plots of `evaluate --out`: confusion matrix, ROC, precision and recall, reliability, as PNG.

Colours are Okabe and Ito's (jfly.uni-koeln.de/color, 2008), distinguishable with every kind of colour vision; lines
also differ in their dashes.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import BundleError, ConfigError, MissingDependencyError
from skinedge.core.files import check_writable, disk_error, write_atomic
from skinedge.stats import metrics
from skinedge.stats.bootstrap import Interval
from skinedge.stats.reliability import reliability as reliability_diagram
from skinedge.system import signals
from skinedge.system.temporary_folder import scratch_folder
from skinedge_bench.evaluate.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Painter = Callable[[Evaluation], Figure]

DOCUMENT = "evaluation.json"  # of `evaluate --out`, beside the plots
NOTICE = "Research tool, not a medical device"
BLUE, VERMILION = "#0072B2", "#D55E00"
COLOURS = (BLUE, "#E69F00", "#009E73", "#CC79A7", "#56B4E9", VERMILION, "#8C7A00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # 5 dashes and 7 colours: 35 different lines
MALIGNANT = {"color": "black", "linestyle": "-", "linewidth": 2.5}


@dataclass(frozen=True)
class Curve:
    """One curve of a plot: the operating points of a score.

    hits, alarms: (T,) positives and negatives at or above each threshold, rising; area: under the curve, with its
    interval; style: for matplotlib.
    """

    name: str
    hits: NDArray[np.float64]
    alarms: NDArray[np.float64]
    area: float
    interval: Interval
    style: Mapping[str, Any]

    def legend(self, figure: str) -> str:
        """Return the curve's entry in the legend."""
        low, high = self.interval
        return f"{figure} {self.area:.3f} [{low:.3f}, {high:.3f}]  {self.name}"


def check(out: Path, *, replace: bool) -> None:
    """Check before the evaluation that plots can be drawn and written to the folder `out`.

    replace: whether an evaluation in `out` may be overwritten.
    Raises: MissingDependencyError without matplotlib; ConfigError if `out` is a file; BundleError if it has an
    evaluation.
    """
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("matplotlib", "plots")
    if out.exists() and not out.is_dir():
        raise ConfigError("is a file, not a folder", where=str(out), todo="Name a folder with --out DIR.")
    if not replace and (out / DOCUMENT).exists():
        raise BundleError("output exists", where=str(out / DOCUMENT), todo="Choose another --out. Or add --force.")
    check_writable(out)


def draw(result: Evaluation) -> dict[str, bytes]:
    """Draw all plots: file name -> PNG."""
    import matplotlib

    painters: dict[str, Painter] = {
        "confusion.png": confusion,
        "roc.png": roc,
        "precision_recall.png": precision_recall,
        "reliability.png": reliability,
    }
    with matplotlib.rc_context({"text.parse_math": False, "font.size": 10, "axes.grid": False}):
        return {name: _png(paint(result)) for name, paint in painters.items()}


def write(out: Path, files: Mapping[str, bytes | str]) -> None:
    """Write all files to the folder `out`, or none; create the folder if it is missing, keep other files in it.

    Raises: BundleError if a file cannot be written; ConfigError if a folder has the name of a file.
    """
    new = not out.exists()
    try:
        for name in files:
            if (out / name).is_dir():
                raise ConfigError("is a folder; a file of this name must be written", where=str(out / name))
        out.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out) as folder:
            for name, content in files.items():
                write_atomic(folder / name, content)
            with signals.held():
                for name in files:
                    (folder / name).replace(out / name)
    except OSError as error:
        raise disk_error(error, out) from None
    finally:
        if new:
            with contextlib.suppress(OSError):  # not empty: the files were written
                out.rmdir()


def confusion(result: Evaluation) -> Figure:
    """Draw the confusion matrix: counts, coloured by their share of the true class."""
    predictions = result.predictions
    matrix = metrics.confusion(predictions.truth, predictions.predicted, len(predictions.labels))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 3.0 + 0.62 * len(predictions.labels)
    figure, axes = _axes(result, "Confusion matrix", (side + 1.2, side))
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        text = f"{count}\n{share[row, column]:.0%}" if count else "0"
        colour = "white" if share[row, column] > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    positions = range(len(predictions.labels))
    axes.set_xticks(positions, predictions.labels, rotation=45, ha="right", rotation_mode="anchor")
    counts = zip(predictions.labels, matrix.sum(axis=1), strict=True)
    axes.set_yticks(positions, [f"{label} (n={n})" for label, n in counts])
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    return figure


def roc(result: Evaluation) -> Figure:
    """Draw the ROC curves: each class against the rest, and malignant against benign."""
    figure, axes = _axes(result, "ROC", (9.4, 5.8))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for curve in _curves(result, "auc"):
        alarms, hits = np.r_[0, curve.alarms] / curve.alarms[-1], np.r_[0, curve.hits] / curve.hits[-1]
        axes.plot(alarms, hits, label=curve.legend("AUC"), **curve.style)
    flagged = result.predictions.flagged
    if flagged is not None:
        sensitivity, specificity = metrics.sensitivity_specificity(result.predictions.positive, flagged)
        _mark(axes, result, 1 - specificity, sensitivity)
    axes.set(xlabel="1 - specificity (share of the others that is flagged)", ylabel="sensitivity")
    return _with_legend(figure, axes)


def precision_recall(result: Evaluation) -> Figure:
    """Draw precision against recall: each class against the rest, and malignant against benign."""
    figure, axes = _axes(result, "Precision and recall", (9.4, 5.8))
    for curve in _curves(result, "average_precision"):
        recall, precision = curve.hits / curve.hits[-1], curve.hits / (curve.hits + curve.alarms)
        axes.step(np.r_[0, recall], np.r_[precision[0], precision], label=curve.legend("AP"), **curve.style)
    positive, flagged = result.predictions.positive, result.predictions.flagged
    if flagged is not None and flagged.any() and positive.any():
        _mark(axes, result, float(flagged[positive].mean()), float(positive[flagged].mean()))
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (share of the flagged that is right)")
    return _with_legend(figure, axes)


def reliability(result: Evaluation) -> Figure:
    """Draw accuracy against confidence in the top class; below, the number of images in each bin."""
    from matplotlib.figure import Figure

    diagram = reliability_diagram(result.predictions.truth, result.predictions.probabilities)
    figure = Figure(figsize=(6.4, 7.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    middle, width = (diagram.edges[:-1] + diagram.edges[1:]) / 2, np.diff(diagram.edges)
    above.bar(middle, diagram.accuracy, width, color="#56B4E9", edgecolor="white", label="share that is right")
    above.plot(
        diagram.confidence,
        diagram.accuracy,
        "o",
        color="black",
        clip_on=False,
        label="the same, at the bin's mean confidence",
    )
    above.plot([0, 1], [0, 1], color=VERMILION, linestyle="--", label="perfectly calibrated")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    below.bar(middle, diagram.share * len(result.predictions.truth), width, color="grey", edgecolor="white")
    below.set(xlabel="confidence in the likeliest class (15 bins)", ylabel="images")
    assumed = result.document["ece_at_class_prior"]
    weighted = f"\nECE {assumed:.3f} at the class shares that the model assumes" if isinstance(assumed, float) else ""
    above.set_title(_title(result, f"Reliability\nECE {diagram.ece:.3f} on these images{weighted}"), fontsize=10)
    return figure


def _curves(result: Evaluation, metric: str) -> Iterator[Curve]:
    """Yield the curves that are defined; malignant last, on top. metric: 'auc' or 'average_precision'."""
    predictions, intervals = result.predictions, result.intervals
    area = {"auc": metrics.auc, "average_precision": metrics.average_precision}[metric]
    lines: list[tuple[str, NDArray[np.bool_], NDArray[Any], Interval, Mapping[str, Any]]] = [
        (label, predictions.truth == i, predictions.uniform[:, i], intervals.per_class[metric][i], _style(i))
        for i, label in enumerate(predictions.labels)
    ]
    if predictions.malignant is not None:
        interval = intervals.overall[f"malignant_{metric}"]
        lines.append(("malignant against benign", predictions.positive, predictions.score, interval, MALIGNANT))
    for name, positive, score, interval, style in lines:
        if positive.any() and not positive.all():
            _, hits, alarms = metrics.operating_points(positive, score)
            yield Curve(name, hits, alarms, area(positive, score), interval, style)


def _style(index: int) -> Mapping[str, Any]:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "linewidth": 1.8,
    }


def _mark(axes: Axes, result: Evaluation, x: float, y: float) -> None:
    """Mark the decision threshold on the malignant curve."""
    label = f"malignant score >= {result.predictions.threshold:.3f}"
    axes.plot([x], [y], "o", color=VERMILION, markersize=9, markeredgecolor="black", zorder=5, label=label)


def _title(result: Evaluation, name: str) -> str:
    warnings = ["model of SYNTHETIC images"] if result.synthetic else []
    if result.selection.trained_on:
        warnings.append(f"CONTAMINATED: trained on {result.selection.trained_on} of them")
    about = f"{result.file}, n = {len(result.predictions.truth):,} images, split {result.selection.split}"
    return "\n".join([name, about, *warnings, NOTICE])


def _axes(result: Evaluation, name: str, inches: tuple[float, float]) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.subplots()
    axes.set_title(_title(result, name), fontsize=10)
    return figure, axes


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), box_aspect=1)
    if axes.get_legend_handles_labels()[0]:
        title = "area with its 95 % interval"
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, title=title, title_fontsize=8)
    else:
        axes.text(0.5, 0.5, "no curve: these images are all of one kind", ha="center")
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130, bbox_inches="tight")
    return out.getvalue()
