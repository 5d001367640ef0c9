"""`skinedge explain`: heatmaps of where in an image a model finds evidence for a class."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinedge.core import taxonomy
from skinedge.core.errors import ConfigError, DataError
from skinedge.core.files import disk_error, write_atomic
from skinedge.core.preprocess import Pixels, prepare
from skinedge.data.loading import Source
from skinedge_bench.explain.frames import RINGS, frame_ring
from skinedge_bench.explain.overlay import Words, draw, overlay
from skinedge_bench.explain.saliency import CAM, NAMES, Explainer

UNITS = {CAM: "logits", "gradcam": "logits"}  # Grad-CAM++ has none


@dataclass(frozen=True)
class Explanation:
    """The heatmap of one image for one class.

    pixels: (S, S, 3) uint8, at the model's input size; probabilities: (C,) float32; index: of the explained class;
    map: (H, W) float32, positive where there is evidence for the class, in the unit of `method`.
    """

    image: str
    pixels: Pixels
    probabilities: NDArray[np.float32]
    index: int
    map: NDArray[np.float32]
    method: str

    def overlay(self) -> Image.Image:
        """Draw the image at the model's input size, in grey, under the colours of its heatmap: S x S pixels, RGB."""
        return overlay(Image.fromarray(self.pixels), self.map)

    def document(self, labels: Sequence[str]) -> dict[str, object]:
        """Return the JSON form; label and probability are of the top class, as in `predict`."""
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
    """An image that could not be explained, and why."""

    image: str
    error: str

    def document(self, labels: Sequence[str]) -> dict[str, object]:
        """Return the JSON form."""
        return {"image": self.image, "error": self.error}


def explain(explainer: Explainer, images: Iterable[Source], label: str | None) -> Iterator[Explanation | Failure]:
    """Yield one result per image, in input order; a bad image gives a Failure and does not stop the others.

    label: the class to explain, also by another name of the same condition; None: the top class of each image.
    Raises: ConfigError for an unknown class, before the first image.
    """
    labels = explainer.model.labels
    class_index = None if label is None else labels.index(taxonomy.label_of(label, labels))
    return (_explain(explainer, image, class_index) for image in images)


def _explain(explainer: Explainer, image: Source, class_index: int | None) -> Explanation | Failure:
    try:
        pixels = prepare(image.decode(image.read()[0], explainer.model.colour), explainer.model.size)
    except DataError as error:
        return Failure(image.name, error.what)
    outputs = explainer.model.run(pixels[None])
    row = outputs.probabilities[0]
    if not np.isfinite(row).all():
        return Failure(image.name, "the model's output has no numbers (NaN or infinite)")
    index = int(row.argmax()) if class_index is None else class_index
    heatmap = explainer.map(pixels, index, outputs)
    if not np.isfinite(heatmap).all():
        return Failure(image.name, "the heatmap has no numbers (NaN or infinite)")
    return Explanation(image.name, pixels, row, index, heatmap, explainer.method)


def words(result: Explanation, explainer: Explainer, notice: str) -> Words:
    """Write the picture's text. It names the image's file, not its folder."""
    model, method = explainer.model, explainer.method
    label, values, side = model.labels[result.index], result.map, len(result.pixels)
    height, width = values.shape
    unit = f" {UNITS[method]}" if method in UNITS else ""
    facts = {
        **result.document(model.labels),
        "model_id": model.model_id,
        "model_sha256": model.sha256,
        "image": Path(result.image).name,
    }
    return Words(
        title=f"Probability {result.probabilities[result.index]:.3f}: {label}",
        subtitle=_full_name(label) + _rank(result, model.labels),
        captions=(
            f"the image at the model's input size, {side} x {side} pixels",
            f"{NAMES[method]}, {width} x {height} cells from {values.min():.3g} to {values.max():.3g}{unit}",
        ),
        evidence=f"evidence for {label}" if values.max() > 0 else f"no evidence for {label} in this image",
        notes=(
            f"{Path(result.image).name}, judged by {model.name}"
            + (f" of run {model.model_id}" if model.model_id else ""),
            "The scale is this image's own. Values below 0 are evidence against the class and are not coloured"
            + (": here, they are stronger." if -values.min() > values.max() else "."),
            "Colours show where the model found its evidence, not whether it is correct.",
            frame_note(result.map),
            notice,
        ),
        meta={"skinedge": json.dumps(facts), "Comment": notice},
    )


def frame_note(heatmap: NDArray[Any]) -> str:
    """Warn of a frame in the map; without one, say that there may be one. heatmap: (H, W)."""
    ring = frame_ring(heatmap)
    if ring is None:
        return "A frame along the border can come from the network's padding, not from the skin."
    return (
        f"Frame: most of the evidence lies in the {RINGS[ring]}, all along the border. "
        "It comes from the zero padding of the network's convolutions, not from the skin."
    )


def _full_name(label: str) -> str:
    """Return 'melanoma; ' for mel; '' where the taxonomy does not know the label, or has no other name for it."""
    try:
        name = taxonomy.resolve(label).name
    except DataError:
        return ""
    return "" if name == label else f"{name}; "


def _rank(result: Explanation, labels: Sequence[str]) -> str:
    """Say whether the explained class is the top class, and which classes follow it or come before it."""
    first, *rest = (-result.probabilities).argsort(kind="stable")
    if first != result.index:
        return f"not the top class: that is {labels[first]}, {result.probabilities[first]:.3f}"
    following = ", ".join(f"{labels[i]} {result.probabilities[i]:.3f}" for i in rest[:2])
    return f"the top class of {len(labels)}" + (f"; then {following}" if following else "")


def check_out(out: Path, images: Sequence[Path]) -> None:
    """Check the output folder. Raises: ConfigError where it is a file, or lies in a folder of the images."""
    resolved = out.resolve()
    if resolved.exists() and not resolved.is_dir():
        raise ConfigError("--out must be a folder, and this is a file", where=str(out))
    for folder in images:
        if folder.is_dir() and resolved.is_relative_to(folder.resolve()):
            raise ConfigError(
                f"the pictures would be read as images next time: {folder} is a folder of images to explain",
                where=f"--out {out}",
                todo="Name a folder outside of it with --out DIR.",
            )


def unique_stems(images: Sequence[Path]) -> list[str]:
    """Return a file stem for each image's picture: its own, with -2, -3 ... where it is taken, ignoring case."""
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


def save(out: Path, stem: str, result: Explanation, explainer: Explainer, notice: str) -> Path:
    """Write the picture as 'STEM.CLASS.METHOD.png' in `out`, which is created where it is missing.

    Raises: BundleError when it cannot be written.
    """
    label = re.sub(r"[^\w-]+", "_", explainer.model.labels[result.index])  # valid in every file system
    picture = out / f"{stem}.{label}.{result.method}.png"
    content = draw(result.pixels, result.map, words(result, explainer, notice))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, out) from None
    write_atomic(picture, content)
    return picture
