"""Test images with the map of where the evidence is. Patients' images: only on request, and never by default."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.core.preprocess import Pixels, prepare
from skinedge.data.dataset import Sample
from skinedge.data.loading import read_checked
from skinedge.run.class_order import Reference, read_reference
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.system.progress import bar
from skinedge_bench.explain.overlay import overlay
from skinedge_bench.explain.saliency import NAMES, Explainer, of_run
from skinedge_bench.report.content import Picture, Pictures
from skinedge_bench.report.sources import REFERENCE
from skinedge_bench.split_images import locate, place_of, test_split

GAP = 8  # pixels between an image and its map


def pictures(bundle: Bundle, data: Path | None) -> Pictures:
    """At most two of each class: the surest right and the surest wrong answer of the merged network.

    data: where the test images are now, if not where the run was trained.
    Raises: DataError when they are not there; ConfigError when no map can be made.
    """
    bundle.file(REFERENCE)
    samples = test_split(bundle)
    root = locate(bundle, samples, data)
    if root is None:
        raise DataError(
            f"the test images are not {place_of(bundle.manifest)}",
            todo="Say where they are with --data DIR, or leave --with-images out.",
        )
    explainer, chosen = of_run(bundle, None), list(choose_examples(read_reference(bundle)))
    found = []
    with bar("examples", len(chosen)) as advance:
        for index in chosen:
            found.append(picture(explainer, root, samples[index]))
            advance(1)
    return Pictures(tuple(found))


def choose_examples(reference: Reference) -> Iterator[int]:
    """Class by class, the image with the surest right answer and the one with the surest wrong answer."""
    probabilities = metrics.softmax(reference.logits)
    answer, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    for label in range(probabilities.shape[1]):
        for right in (answer == label, answer != label):
            among = np.flatnonzero((reference.labels == label) & right)
            if among.size:
                yield int(among[sure[among].argmax()])


def picture(explainer: Explainer, root: Path, sample: Sample) -> Picture:
    """The image as the model sees it, and beside it the map for the class that it answers."""
    model = explainer.model
    pixels = prepare(read_checked(root, sample), model.size)
    outputs = model.run(pixels[None])
    row = outputs.probabilities[0]
    index = int(row.argmax())
    answer, verdict = model.labels[index], "right" if model.labels[index] == sample.label else "wrong"
    score = float(metrics.malignant_score(row[None], model.malignant or ())[0])
    said = f"{verdict}: {sample.label}, answered {answer} ({row[index]:.3f})"
    shown = overlay(Image.fromarray(pixels), explainer.map(pixels, index, outputs))
    return Picture(
        jpeg=side_by_side(pixels, shown),
        says=f"Image of the class {sample.label} beside its {NAMES[explainer.method]} for {answer}; {said}",
        caption=(said, f"malignant score {score:.3f}; {sample.image_id}; {NAMES[explainer.method]}"),
    )


def side_by_side(pixels: Pixels, shown: Image.Image) -> bytes:
    """JPEG without any metadata. pixels: (S, S, 3) uint8; shown: S x S."""
    side = len(pixels)
    sheet = Image.new("RGB", (2 * side + GAP, side), "white")
    sheet.paste(Image.fromarray(pixels), (0, 0))
    sheet.paste(shown, (side + GAP, 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
