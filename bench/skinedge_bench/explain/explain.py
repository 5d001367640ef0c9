"""`skinedge explain`: where in an image a model found the evidence for a class."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge.core import taxonomy
from skinedge.core.errors import ConfigError, DataError
from skinedge.core.files import disk_error, write_atomic
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import Pixels, prepare
from skinedge_bench.explain.overlay import Words, draw
from skinedge_bench.explain.saliency import CAM, NAMES, Explainer

UNITS = {CAM: "logits", "gradcam": "logits"}  # Grad-CAM++ has none


@dataclass(frozen=True)
class Explanation:
    """One image and one class.

    pixels: (S, S, 3) uint8, as the model saw them; probabilities: (C,) float32; index: of the class that is explained;
    map: (H, W) float32, positive where there is evidence for it, in the unit of `method`.
    """

    image: str
    pixels: Pixels
    probabilities: NDArray[np.float32]
    index: int
    map: NDArray[np.float32]
    method: str

    def document(self, labels: Sequence[str]) -> dict[str, object]:
        """The JSON form: label and probability are the likeliest class's, as `predict` says them."""
        best = int(self.probabilities.argmax())
        return {
            "image": self.image,
            "label": labels[best],
            "probability": float(self.probabilities[best]),
            "class": labels[self.index],
            "class_probability": float(self.probabilities[self.index]),
            "method": self.method,
            "unit": UNITS.get(self.method),
            "cells": list(self.map.shape),
            "minimum": float(self.map.min()),
            "maximum": float(self.map.max()),
        }


@dataclass(frozen=True)
class Failure:
    """An image of which nothing could be said, and why."""

    image: str
    error: str

    def document(self, labels: Sequence[str]) -> dict[str, object]:
        return {"image": self.image, "error": self.error}


def explain(explainer: Explainer, images: Sequence[Path], label: str | None) -> Iterator[Explanation | Failure]:
    """One result per image, in their order; a bad image gives its error and the others go on.

    label: the class to explain, None: each image's likeliest.
    Raises: ConfigError for an unknown class, before the first image.
    """
    labels = explainer.model.labels
    if label is not None and label not in labels:
        raise ConfigError(f"the model has no class '{label}'", todo=f"It has: {', '.join(labels)}.")
    wanted = None if label is None else labels.index(label)
    return (_explain(explainer, image, wanted) for image in images)


def _explain(explainer: Explainer, image: Path, wanted: int | None) -> Explanation | Failure:
    try:
        pixels = prepare(load_image(image), explainer.model.size)
    except DataError as error:
        return Failure(str(image), error.what)
    outputs = explainer.model.run(pixels[None])
    row = outputs.probabilities[0]
    if not np.isfinite(row).all():
        return Failure(str(image), "the model gave no numbers (NaN or infinite)")
    index = int(row.argmax()) if wanted is None else wanted
    found = explainer.map(pixels, index, outputs)
    if not np.isfinite(found).all():
        return Failure(str(image), "the map has no numbers (NaN or infinite)")
    return Explanation(str(image), pixels, row, index, found, explainer.method)


def words(found: Explanation, explainer: Explainer, notice: str) -> Words:
    """What the picture says. It names the image's file, not the folder that it is in."""
    model, method = explainer.model, explainer.method
    label, values, side = model.labels[found.index], found.map, len(found.pixels)
    height, width = values.shape
    unit = f" {UNITS[method]}" if method in UNITS else ""
    facts = {
        **found.document(model.labels),
        "model_id": model.model_id,
        "model_sha256": model.sha256,
        "image": Path(found.image).name,
    }
    return Words(
        title=f"Probability {found.probabilities[found.index]:.3f}: {label}",
        subtitle=_full_name(label) + _others(found, model.labels),
        captions=(
            f"the image as the model saw it, {side} x {side} pixels",
            f"{NAMES[method]}, {width} x {height} cells from {values.min():.3g} to {values.max():.3g}{unit}",
        ),
        evidence=f"evidence for {label}" if values.max() > 0 else f"no evidence for {label} in this image",
        notes=(
            f"{Path(found.image).name}, judged by {model.name}"
            + (f" of run {model.model_id}" if model.model_id else ""),
            "The scale is this image's own. What is below 0 speaks against the class and is not coloured"
            + (": here, it is the stronger part." if -values.min() > values.max() else "."),
            "Colours show where the model found its evidence, not whether it is right.",
            notice,
        ),
        meta={"skinedge": json.dumps(facts), "Comment": notice},
    )


def _full_name(label: str) -> str:
    """'melanoma; ' for mel; nothing where the table of conditions does not know it, or it is the label."""
    try:
        name = taxonomy.resolve(label).name
    except DataError:
        return ""
    return "" if name == label else f"{name}; "


def _others(found: Explanation, labels: Sequence[str]) -> str:
    """How the class stands among the others: it is the likeliest, and what comes next; or what is likelier."""
    first, *rest = (-found.probabilities).argsort(kind="stable")
    if first != found.index:
        return f"not the likeliest class: that is {labels[first]}, {found.probabilities[first]:.3f}"
    following = ", ".join(f"{labels[i]} {found.probabilities[i]:.3f}" for i in rest[:2])
    return f"the likeliest of {len(labels)} classes" + (f"; then {following}" if following else "")


def check_out(out: Path, images: Sequence[Path]) -> None:
    """Raises: ConfigError for a folder in which the pictures would be taken for images the next time, or no folder."""
    place = out.resolve()
    if place.exists() and not place.is_dir():
        raise ConfigError("--out must be a folder, and this is a file", where=str(out))
    for folder in images:
        if folder.is_dir() and place.is_relative_to(folder.resolve()):
            raise ConfigError(
                f"in {folder}, whose images are to be explained, the pictures would be taken for images next time",
                where=f"--out {out}",
                todo="Name a folder outside of it with --out DIR.",
            )


def named(images: Sequence[Path]) -> list[str]:
    """A name for each image's picture: its own, with -2, -3 ... where another has it, whatever the case of letters."""
    taken: set[str] = set()
    stems = []
    for image in images:
        stem, number = image.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{image.stem}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def save(out: Path, stem: str, found: Explanation, explainer: Explainer, notice: str) -> Path:
    """Write the picture as 'STEM.CLASS.METHOD.png' in `out`, which is made where it is not there.

    Raises: BundleError when it cannot be written.
    """
    label = re.sub(r"[^\w-]+", "_", explainer.model.labels[found.index])  # what every file system takes
    picture = out / f"{stem}.{label}.{found.method}.png"
    content = draw(found.pixels, found.map, words(found, explainer, notice))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, out) from None
    write_atomic(picture, content)
    return picture
