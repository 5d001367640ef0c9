"""What runtimes share: the layout of a file's input, and what its output numbers mean."""

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

BATCH = 16  # images a call where the file's batch dimension is free: bounds memory, costs no speed on a CPU
SUM_TOLERANCE = 0.03  # a softmax quantized to 1/256 misses 1 by so much


@dataclass(frozen=True)
class Layout:
    """How a file wants its images.

    size: side in pixels, -1 if free; batch: images a call, -1 if free; contract: what its numbers mean; None for
    a stranger's file, which gets 0..255.
    """

    size: int
    batch: int
    channels_first: bool
    dtype: np.dtype[Any]
    contract: Contract | None = None

    @classmethod
    def of(cls, spec: TensorSpec, metadata: Mapping[str, str], where: str) -> Layout:
        """metadata: what the file says of itself; raises ConfigError when the input is no batch of square RGB images,
        or not what the file says; DataError for a damaged description.
        """
        shape, dtype, contract = spec.shape, np.dtype(spec.dtype), None
        if KEY in metadata:
            contract = CONTRACTS[ModelDescription.from_json(metadata[KEY], where).input]
            if contract.dtype != dtype.name:
                raise ConfigError(f"the file says that it takes {contract.dtype}, and takes {dtype.name}", where=where)
        if len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2]:
            return cls(shape[1], shape[0], False, dtype, contract)
        if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]:
            return cls(shape[2], shape[0], True, dtype, contract)
        raise ConfigError(
            f"input '{spec.name}' has shape {list(shape)}; this needs square RGB images, NHWC or NCHW", where=where
        )

    def arrange(self, pixels: Pixels) -> NDArray[Any]:
        """(n, S, S, 3) uint8 -> the file's layout, contiguous, in its dtype, as its contract says.

        Raises: ConfigError when the images have another size than the file's input.
        """
        if self.size not in (-1, pixels.shape[1]):
            raise ConfigError(f"the model takes images of {self.size} pixels, these have {pixels.shape[1]}")
        moved = pixels.transpose(0, 3, 1, 2) if self.channels_first else pixels
        if self.contract is not None:
            return self.contract.encode(moved)
        return np.ascontiguousarray(moved, dtype=self.dtype)

    def batches(self, pixels: Pixels) -> Iterator[tuple[Pixels, int]]:
        """Cut into calls: (images, how many of them count); a fixed batch is filled with the last image."""
        step = BATCH if self.batch == -1 else self.batch
        for start in range(0, len(pixels), step):
            part = pixels[start : start + step]
            count = len(part)
            if self.batch != -1 and count < step:
                part = np.concatenate([part, np.repeat(part[-1:], step - count, axis=0)])
            yield part, count


@contextmanager
def refusing(runtime: str, doing: str, where: str) -> Iterator[None]:
    """Turn whatever a runtime raises over a file into one line: BundleError with its first line; ours pass."""
    try:
        yield
    except SkinedgeError:
        raise
    except Exception as error:  # C++ exceptions have no common base, and damaged files meet every one of Python's
        reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
        raise BundleError(f"{runtime} cannot {doing} this file ({reason[:200]})", where=where) from None


def run_batches(
    layout: Layout, pixels: Pixels, call: Callable[[Pixels], Sequence[NDArray[Any]]], outputs: Sequence[TensorSpec]
) -> list[NDArray[Any]]:
    """What `call` gives of (N, S, S, 3) uint8, batch by batch: one array per output, (N, ...) float32."""
    parts: list[list[NDArray[Any]]] = [[] for _ in outputs]
    for part, count in layout.batches(pixels):
        for kept, array in zip(parts, call(part), strict=True):
            kept.append(array[:count])
    return [
        np.concatenate(kept).astype(np.float32)
        if kept
        else np.zeros((0, *(max(side, 0) for side in spec.shape[1:])), np.float32)
        for kept, spec in zip(parts, outputs, strict=True)
    ]


def gives_logits(layout: Layout, scores: Callable[[Pixels], NDArray[Any]]) -> bool:
    """Whether a stranger's file ends in logits, asked with four images.

    Logits do not all come out non-negative with a sum of 1.
    """
    side = layout.size if layout.size > 0 else 224
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, side, side, 3)).astype(np.uint8)
    images[0], images[1] = 0, 255
    rows = scores(images)
    return not bool((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def as_outputs(scores: NDArray[Any], logits: bool) -> Outputs:
    """Outputs of a stranger's file, from its scores (N, C)."""
    if logits:
        return Outputs(softmax(scores), scores)
    return Outputs(scores)


def own_names(metadata: Mapping[str, str], names: Sequence[str], where: str) -> list[str] | None:
    """Which outputs to ask a file of ours for, in this order; None for a stranger's file.

    Raises: ConfigError when the file says that it is ours and has no probabilities.
    """
    if KEY not in metadata:
        return None
    if PROBABILITIES not in names:
        raise ConfigError(f"no output '{PROBABILITIES}'; it has {', '.join(names)}", where=where)
    return [name for name in (PROBABILITIES, LOGITS, HEATMAP) if name in names]


def input_side(session: Session, free: int) -> int:
    """Side in pixels of the images that a session takes; `free` where any will do."""
    side = max(session.inputs[0].shape[1:3])  # NHWC: S, S; NCHW: 3, S
    return side if side > 3 else free


def check_scores(spec: TensorSpec, where: str) -> int:
    """Number of classes of an output (N, C); raises ConfigError for any other shape."""
    if len(spec.shape) != 2:
        raise ConfigError(f"output '{spec.name}' has shape {list(spec.shape)}; a classifier gives (N, C)", where=where)
    return spec.shape[1]


class FileSession:
    """What the sessions of model files have in common: a runtime's own class adds `_call`.

    A file of ours gives what it names; a stranger's first output is its scores, and is asked once, in the first run,
    since that takes inferences, whether these are logits.
    """

    partitions: int | None = None
    outside: tuple[str, ...] | None = None
    runtime = "the runtime"  # as errors name it

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
        self._wanted = [specs[name] for name in self._names or [outputs[0].name]]
        check_scores(self._wanted[0], where)
        self._logits: bool | None = None

    def run(self, pixels: Pixels) -> Outputs:
        arrays = self._arrays(pixels)
        if self._names is not None:
            found = dict(zip(self._names, arrays, strict=True))
            return Outputs(found[PROBABILITIES], found.get(LOGITS), found.get(HEATMAP))
        if self._logits is None:
            self._logits = gives_logits(self._layout, self.scores)
        return as_outputs(arrays[0], self._logits)

    def scores(self, pixels: Pixels) -> NDArray[Any]:
        """What the file itself gives first: (N, C) float32, probabilities or logits."""
        return self._arrays(pixels)[0]

    def _arrays(self, pixels: Pixels) -> list[NDArray[Any]]:
        """Raises: BundleError when the runtime cannot compute the file, or gives other shapes than the file says."""
        with refusing(self.runtime, "run", self._where):
            arrays = run_batches(self._layout, pixels, self._call, self._wanted)
            shape, classes = arrays[0].shape, self._wanted[0].shape[1]
            if len(shape) != 2 or shape[0] != len(pixels) or classes not in (-1, shape[1]):
                raise ValueError(f"scores of shape {shape} for {len(pixels)} images")
            return arrays

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        """One call's outputs, in the order of `_wanted`."""
        raise NotImplementedError
