"""Test images with heatmaps of the evidence. They are patients' images: shown on request only."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.core.preprocess import Pixels, prepare
from skinedge.data.dataset import Sample
from skinedge.data.loading import read_checked
from skinedge.run.class_order import Reference, read_reference
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.system.progress import bar
from skinedge_bench.explain.frames import frame_warning
from skinedge_bench.explain.overlay import overlay
from skinedge_bench.explain.saliency import NAMES, Explainer, of_run
from skinedge_bench.report.content import Picture, Pictures
from skinedge_bench.report.mistakes import Mistake, named
from skinedge_bench.report.sources import REFERENCE
from skinedge_bench.split_images import locate, place_of, test_split

WORST = 12  # mistakes with an image
GAP = 8  # pixels between an image and its heatmap


@dataclass(frozen=True)
class Gallery:
    """Test images with heatmaps.

    mistakes: the most harmful ones, None if there are none; examples: of each class; warning: on frames in the
    heatmaps, None if they show none.
    """

    mistakes: Pictures | None
    examples: Pictures
    warning: str | None


def gallery(bundle: Bundle, data: Path | None, mistakes: Sequence[Mistake]) -> Gallery:
    """Draw the most harmful mistakes, and at most two of each class: the merged network's most confident correct and
    most confident wrong prediction.

    data: where the test images are now, if not where the run was trained; mistakes: by harm.
    Raises: DataError when they are missing; ConfigError when no heatmap can be made.
    """
    bundle.file(REFERENCE)
    located = locate(bundle, test_split(bundle), data)
    if located is None:
        raise DataError(
            f"the test images are not {place_of(bundle.manifest)}",
            todo="Name their folder with --data DIR, or leave --with-images out.",
        )
    explainer, reference = of_run(bundle, None), read_reference(bundle)
    examples = list(choose_examples(reference))
    harmful = [mistake.index for mistake in mistakes[:WORST]]
    drawn: dict[int, tuple[Picture, NDArray[np.float32]]] = {}
    wanted = dict.fromkeys((*harmful, *examples))
    with bar("images", len(wanted)) as advance:
        for index in wanted:
            drawn[index] = picture(explainer, located.root, located.samples[index])
            advance(1)
    worst, each = (Pictures(tuple(drawn[index][0] for index in chosen)) for chosen in (harmful, examples))
    warning = frame_warning([heatmap for _, heatmap in drawn.values()])
    return Gallery(worst if harmful else None, each, warning)


def choose_examples(reference: Reference) -> Iterator[int]:
    """Yield, class by class, the indices of the most confident correct and the most confident wrong prediction."""
    probabilities = metrics.softmax(reference.logits)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    for label in range(probabilities.shape[1]):
        for selected in (predicted == label, predicted != label):
            indices = np.flatnonzero((reference.labels == label) & selected)
            if indices.size:
                yield int(indices[confidence[indices].argmax()])


def picture(explainer: Explainer, root: Path, sample: Sample) -> tuple[Picture, NDArray[np.float32]]:
    """Draw the image at the model's input size, and beside it the heatmap for the predicted class; return this too."""
    model = explainer.model
    pixels = prepare(read_checked(root, sample, model.colour), model.size)
    outputs = model.run(pixels[None])
    row = outputs.probabilities[0]
    index = int(row.argmax())
    answer = model.labels[index]
    verdict = "right" if answer == sample.label else "wrong"
    score = float(metrics.malignant_score(row[None], model.malignant or ())[0])
    summary = f"{verdict}: {named(sample.label)}, called {named(answer)}, probability {row[index]:.3f}"
    heatmap = explainer.map(pixels, index, outputs)
    shown = overlay(Image.fromarray(pixels), heatmap)
    drawn = Picture(
        jpeg=side_by_side(pixels, shown),
        alt=f"Image of the class {sample.label} beside its {NAMES[explainer.method]} for {answer}; {summary}",
        caption=(summary, f"malignant score {score:.3f}; {sample.image_id}; {NAMES[explainer.method]}"),
    )
    return drawn, heatmap


def side_by_side(pixels: Pixels, shown: Image.Image) -> bytes:
    """Encode both as one JPEG without metadata. pixels: (S, S, 3) uint8; shown: S x S."""
    side = len(pixels)
    sheet = Image.new("RGB", (2 * side + GAP, side), "white")
    sheet.paste(Image.fromarray(pixels), (0, 0))
    sheet.paste(shown, (side + GAP, 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
