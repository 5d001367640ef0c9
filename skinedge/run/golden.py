"""Golden vectors: synthetic images with reference logits, replayed on a laptop, a Pi and a phone alike.

They show no patient, so they are packed with the model. Some include their source pixels at odd sizes, so that a replay
tests resizing too. They have few flat colours: edges as sharp as in any image, in a tenth of the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from skinedge.core.arrays import open_arrays
from skinedge.core.errors import BundleError
from skinedge.core.preprocess import Pixels, prepare
from skinedge.data.synthetic import draw
from skinedge.run.plugins import Runtime
from skinedge.run.run_directory import Bundle
from skinedge.system.cpu_features import cpu_features, instruction_set

COUNT = 64  # images
WITH_SOURCE = 16  # images that include their source
SEED = 20_260_101
COLOURS = 12
SOURCE_COLOURS = 8  # before resizing, which blends them into hundreds


@dataclass(frozen=True)
class Golden:
    """Contents of golden.npz.

    pixels: (64, S, S, 3) uint8, prepared; sources: image index -> (H, W, 3) uint8 before preparation;
    logits: (64, C) float32 of the merged model in PyTorch, eager, fp32, CPU.
    """

    pixels: Pixels
    sources: dict[int, Pixels]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class GoldenOutputs:
    """What one model file gave for the golden images when it was made: damage to its weights changes it.

    probabilities: (64, C) float32; environment: see `environment`.
    """

    probabilities: NDArray[np.float32]
    environment: tuple[str, ...]


def draw_golden(size: int) -> tuple[Pixels, dict[int, Pixels]]:
    """Draw the 64 images at `size` pixels, and the sources of the first 16.

    The sources' sides are odd and range from half to three times `size`, in portrait and landscape.
    """
    rng = np.random.default_rng(SEED)
    pixels, sources = [], {}
    for index in range(COUNT):
        if index < WITH_SOURCE:
            height, width = (int(side) | 1 for side in rng.integers(max(32, size // 2), 3 * size, 2))
            sources[index] = flattened(draw(SEED + index, index % 7, height, width), SOURCE_COLOURS)
            pixels.append(prepare(sources[index], size))
        else:
            pixels.append(flattened(draw(SEED + index, index % 7, size, size), COLOURS))
    return np.stack(pixels), sources


def flattened(pixels: Pixels, colours: int) -> Pixels:
    """Remove grain and reduce the image to at most `colours` colours, so that it compresses well.

    pixels and the result: (H, W, 3) uint8.
    """
    smooth = Image.fromarray(pixels).filter(ImageFilter.MedianFilter(7))
    palette_image = smooth.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(palette_image.convert("RGB"), dtype=np.uint8)


def save(path: Path, golden: Golden) -> None:
    """Write golden.npz."""
    indices = sorted(golden.sources)
    arrays = {_source_name(position): golden.sources[index] for position, index in enumerate(indices)}
    with path.open("wb") as stream:
        np.savez_compressed(
            stream,
            pixels=golden.pixels,
            logits=golden.logits,
            source_index=np.array(indices, dtype=np.int64),
            **arrays,  # type: ignore[arg-type]
        )


def load(path: Path) -> Golden:
    """Read golden.npz. Raises: BundleError when arrays are missing, unexpected, damaged or inconsistent."""
    with open_arrays(path, BundleError, "a file of golden vectors") as archive:
        indices = archive.read("source_index", "iu", 1)[: len(archive.names)].tolist()  # bounded by the file
        expected = {"pixels", "logits", "source_index", *(_source_name(position) for position in range(len(indices)))}
        if set(archive.names) != expected or len(set(indices)) < len(indices):
            raise ValueError("its arrays are not those of golden vectors")
        pixels, logits = archive.read("pixels", "u", 4), archive.read("logits", "f", 2)
        sources = {index: archive.read(_source_name(position), "u", 3) for position, index in enumerate(indices)}
        count, side = pixels.shape[:2]
        shapes_fit = pixels.shape == (count, side, side, 3) and all(image.shape[2] == 3 for image in sources.values())
        if not shapes_fit or len(logits) != count or min(pixels.size, logits.size) == 0:
            raise ValueError(f"pixels {pixels.shape} and logits {logits.shape} do not match")
        if any(image.dtype != np.uint8 or image.size == 0 for image in (pixels, *sources.values())):
            raise ValueError("an image is empty or not uint8")
        if not np.isfinite(logits).all() or any(index not in range(count) for index in indices):
            raise ValueError("a logit is not finite, or a source has no image")
        return Golden(pixels, sources, logits.astype(np.float32))


def of_run(bundle: Bundle) -> Golden:
    """Read a run's golden.npz.

    Raises: BundleError as `load` does, and when image size or number of classes differ from the run's.
    """
    path, manifest = bundle.file("golden.npz"), bundle.manifest
    vectors = load(path)
    size, classes = vectors.pixels.shape[1], vectors.logits.shape[1]
    if (size, classes) != (manifest.preprocess.size, len(manifest.labels)):
        raise BundleError(
            f"golden vectors of {size} pixels and {classes} classes; the run has {manifest.preprocess.size} pixels "
            f"and {len(manifest.labels)} classes",
            where=str(path),
        )
    return vectors


def outputs_name(file: str) -> str:
    """Return the name of the golden outputs of the model file `file`: 'golden.int8.tflite.npz'."""
    return f"golden.{file.removeprefix('model.')}.npz"


def environment(runtime: Runtime) -> tuple[str, ...]:
    """Return runtime, version and instruction set of this machine: where they are equal, outputs are equal."""
    return (f"{runtime.name} {runtime.version()}", *instruction_set(cpu_features()))


def save_outputs(path: Path, outputs: GoldenOutputs) -> None:
    """Write the golden outputs of a model file."""
    with path.open("wb") as stream:
        np.savez_compressed(stream, probabilities=outputs.probabilities, environment=np.array(outputs.environment))


def outputs_of(bundle: Bundle, file: str, images: int) -> GoldenOutputs | None:
    """Read the golden outputs of a run's model file; None if it was exported before they were recorded.

    Raises: BundleError when they are damaged, or not of this number of images and of the run's classes.
    """
    if not bundle.has(outputs_name(file)):
        return None
    with open_arrays(bundle.file(outputs_name(file)), BundleError, "a file of golden outputs") as archive:
        probabilities, names = archive.read("probabilities", "f", 2), archive.read("environment", "U", 1)
        shape = (images, len(bundle.manifest.labels))
        if probabilities.shape != shape or not np.isfinite(probabilities).all():
            raise ValueError(f"probabilities of shape {probabilities.shape}, expected finite ones of {shape}")
        return GoldenOutputs(probabilities.astype(np.float32), tuple(names.tolist()))


def _source_name(position: int) -> str:
    """Return the array name of the source at `position` in `source_index`."""
    return f"source_{position:02d}"
