"""Common parts of the runtimes: input layout, batching, and the interpretation of outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import BundleError, ConfigError, SkinedgeError
from skinedge.core.input_format import CONTRACTS, HEATMAP, LOGITS, PROBABILITIES, Contract
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.plugins import Session, TensorSpec
from skinedge.stats.metrics import softmax

BATCH = 16  # images per call for a free batch dimension: bounds memory without loss of speed on a CPU
SUM_TOLERANCE = 0.03  # deviation from 1 of a softmax quantized to 1/256


@dataclass(frozen=True)
class Layout:
    """The layout of a file's image input.

    size: side in pixels, -1 if free; batch: images per call, -1 if free; contract: range and meaning of the input
    numbers, None for a third-party file, which gets 0..255.
    """

    size: int
    batch: int
    channels_first: bool
    dtype: np.dtype[Any]
    contract: Contract | None = None

    @classmethod
    def of(cls, spec: TensorSpec, metadata: Mapping[str, str], where: str) -> Layout:
        """Derive the layout from the input tensor and the file's metadata.

        Raises: ConfigError when the input is not a batch of square RGB images or contradicts the metadata; DataError
        for a damaged description.
        """
        shape, dtype, contract = spec.shape, np.dtype(spec.dtype), None
        if KEY in metadata:
            contract = CONTRACTS[ModelDescription.from_json(metadata[KEY], where).input]
            if contract.dtype != dtype.name:
                raise ConfigError(
                    f"the file's description says its input is {contract.dtype}, but it is {dtype.name}", where=where
                )
        if len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2]:
            return cls(shape[1], shape[0], False, dtype, contract)
        if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]:
            return cls(shape[2], shape[0], True, dtype, contract)
        raise ConfigError(
            f"input '{spec.name}' has shape {list(shape)}; this needs square RGB images, NHWC or NCHW", where=where
        )

    def arrange(self, pixels: Pixels) -> NDArray[Any]:
        """Convert (n, S, S, 3) uint8 to the file's layout, dtype and range, contiguous.

        Raises: ConfigError when the size of the images differs from the file's input.
        """
        if self.size not in (-1, pixels.shape[1]):
            raise ConfigError(f"the model needs images of {self.size} pixels, these have {pixels.shape[1]}")
        arranged = pixels.transpose(0, 3, 1, 2) if self.channels_first else pixels
        if self.contract is not None:
            return self.contract.encode(arranged)
        return np.ascontiguousarray(arranged, dtype=self.dtype)

    def batches(self, pixels: Pixels) -> Iterator[tuple[Pixels, int]]:
        """Split into batches: yield (images, number of valid images); the last image pads a fixed batch."""
        step = BATCH if self.batch == -1 else self.batch
        for start in range(0, len(pixels), step):
            batch = pixels[start : start + step]
            count = len(batch)
            if self.batch != -1 and count < step:
                batch = np.concatenate([batch, np.repeat(batch[-1:], step - count, axis=0)])
            yield batch, count


@contextmanager
def refusing(runtime: str, action: str, where: str) -> Iterator[None]:
    """Convert any exception of a runtime to a BundleError with its first line; SkinedgeErrors pass through."""
    try:
        yield
    except SkinedgeError:
        raise
    except Exception as error:  # C++ exceptions have no common base, and damaged files can cause any of Python's
        reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
        raise BundleError(f"{runtime} cannot {action} this file ({reason[:200]})", where=where) from None


def run_batches(
    layout: Layout, pixels: Pixels, call: Callable[[Pixels], Sequence[NDArray[Any]]], outputs: Sequence[TensorSpec]
) -> list[NDArray[Any]]:
    """Run `call` on (N, S, S, 3) uint8 in batches; return one array per output, (N, ...) float32."""
    parts: list[list[NDArray[Any]]] = [[] for _ in outputs]
    for batch, count in layout.batches(pixels):
        for arrays, array in zip(parts, call(batch), strict=True):
            arrays.append(array[:count])
    return [
        np.concatenate(arrays).astype(np.float32)
        if arrays
        else np.zeros((0, *(max(side, 0) for side in spec.shape[1:])), np.float32)
        for arrays, spec in zip(parts, outputs, strict=True)
    ]


def gives_logits(layout: Layout, scores: Callable[[Pixels], NDArray[Any]]) -> bool:
    """Return True if a third-party file gives logits, tested with four images.

    Probabilities are non-negative and sum to 1 for each image.
    """
    side = layout.size if layout.size > 0 else 224
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, side, side, 3)).astype(np.uint8)
    images[0], images[1] = 0, 255
    rows = scores(images)
    return not bool((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def as_outputs(scores: NDArray[Any], logits: bool) -> Outputs:
    """Build the outputs of a third-party file from its scores (N, C)."""
    if logits:
        return Outputs(softmax(scores), scores)
    return Outputs(scores)


def own_names(metadata: Mapping[str, str], names: Sequence[str], where: str) -> list[str] | None:
    """Return the output names of a skinedge file, in order; None for a third-party file.

    Raises: ConfigError for a skinedge file without probabilities.
    """
    if KEY not in metadata:
        return None
    if PROBABILITIES not in names:
        raise ConfigError(f"no output '{PROBABILITIES}'; it has {', '.join(names)}", where=where)
    return [name for name in (PROBABILITIES, LOGITS, HEATMAP) if name in names]


def input_side(session: Session, free: int) -> int:
    """Return the side of a session's input images in pixels; `free` if any size is accepted."""
    side = max(session.inputs[0].shape[1:3])  # NHWC: S, S; NCHW: 3, S
    return side if side > 3 else free


def check_scores(spec: TensorSpec, where: str) -> int:
    """Return the number of classes of an output (N, C). Raises: ConfigError for any other shape."""
    if len(spec.shape) != 2:
        raise ConfigError(f"output '{spec.name}' has shape {list(spec.shape)}; a classifier gives (N, C)", where=where)
    return spec.shape[1]


class FileSession:
    """Base class of the sessions of model files; subclasses implement `_call`.

    A skinedge file has named outputs. The first output of a third-party file is its scores; the first run tests whether
    these are logits, which takes inferences.
    """

    partitions: int | None = None
    outside: tuple[str, ...] | None = None
    runtime = "the runtime"  # name in errors

    def __init__(
        self,
        layout: Layout,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        metadata: Mapping[str, str],
        where: str,
    ) -> None:
        self.inputs, self.outputs, self.metadata = inputs, outputs, metadata
        specs = {spec.name: spec for spec in outputs}
        self._layout, self._where = layout, where
        self._names = own_names(metadata, list(specs), where)
        self._selected = [specs[name] for name in self._names or [outputs[0].name]]
        check_scores(self._selected[0], where)
        self._logits: bool | None = None

    def run(self, pixels: Pixels) -> Outputs:
        """Run the model on prepared images. pixels: (N, S, S, 3) uint8."""
        arrays = self._arrays(pixels)
        if self._names is not None:
            outputs = dict(zip(self._names, arrays, strict=True))
            return Outputs(outputs[PROBABILITIES], outputs.get(LOGITS), outputs.get(HEATMAP))
        if self._logits is None:
            self._logits = gives_logits(self._layout, self.scores)
        return as_outputs(arrays[0], self._logits)

    def scores(self, pixels: Pixels) -> NDArray[Any]:
        """Return the first output of the file: (N, C) float32, probabilities or logits."""
        return self._arrays(pixels)[0]

    def _arrays(self, pixels: Pixels) -> list[NDArray[Any]]:
        """Return the output arrays. Raises: BundleError when the runtime fails or gives other shapes."""
        with refusing(self.runtime, "run", self._where):
            arrays = run_batches(self._layout, pixels, self._call, self._selected)
            shape, classes = arrays[0].shape, self._selected[0].shape[1]
            if len(shape) != 2 or shape[0] != len(pixels) or classes not in (-1, shape[1]):
                raise ValueError(f"scores of shape {shape} for {len(pixels)} images")
            return arrays

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        """Return the outputs of one call, in the order of `_selected`."""
        raise NotImplementedError
