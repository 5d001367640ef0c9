"""The image input of a model file: its layout, and the numbers that it takes for a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError
from skinedge.core.input_format import CONTRACTS, Contract
from skinedge.core.preprocess import Pixels
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.plugins import Session, TensorSpec

BATCH = 16  # images per call for a free batch dimension: bounds memory without loss of speed on a CPU


@dataclass(frozen=True)
class Normalization:
    """real = (pixel - mean) / std; one value for all channels, or one each for red, green and blue."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, pixels: Pixels) -> NDArray[np.float32]:
        """Normalize (n, S, S, 3) uint8."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.asarray((pixels.astype(np.float32) - mean) / std)

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"(pixel - ({mean})) / ({std})"


@dataclass(frozen=True)
class Encoding:
    """How a third-party file takes pixels: what the file states beyond the tensor's dtype.

    normalization: from TFLite Metadata, None if not stated; scale, zero: of a quantized input, None without a scale.
    """

    normalization: Normalization | None = None
    scale: float | None = None
    zero: int = 0

    def problem(self, dtype: np.dtype[Any]) -> str | None:
        """Return why pixels cannot be converted to this dtype; None if they can."""
        if dtype.kind not in "fiu":
            return f"is {dtype}, not numbers"
        if dtype.kind == "f":
            return None
        if self.normalization is not None and self.scale is None:
            return f"is {dtype} without a scale, so that the normalization {self.normalization} does not fit it"
        if self.normalization is None and self.scale is not None and dtype.itemsize > 1:
            return f"is quantized to {dtype}, and the file does not state the range of its pixels"
        return None

    def encode(self, pixels: Pixels, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Convert (n, S, S, 3) uint8. Without a normalization, a quantized input gets bytes: its scale normalizes."""
        if self.normalization is None:
            offset = 128 if dtype == np.int8 else 0
            return (pixels.astype(np.int16) - offset).astype(dtype) if offset else pixels.astype(dtype)
        real = self.normalization.apply(pixels)
        if dtype.kind == "f":
            return real.astype(dtype)
        limits = np.iinfo(dtype)
        quantized = np.rint(real / np.float32(self.scale)) + self.zero
        return np.asarray(np.clip(quantized, limits.min, limits.max).astype(dtype))

    def note(self, dtype: np.dtype[Any]) -> str:
        """Describe the conversion in a sentence."""
        if self.normalization is not None:
            return f"pixels as the file's TFLite Metadata says: {self.normalization}"
        text = "not normalized" if dtype.kind == "f" else f"as {dtype}" + (", minus 128" if dtype == np.int8 else "")
        return f"pixel format not specified in the file: assuming RGB 0..255, {text}"


@dataclass(frozen=True)
class Layout:
    """The layout of a file's image input.

    size: side in pixels, -1 if free; batch: images per call, -1 if free; contract: range and meaning of the input
    numbers, None for a third-party file; encoding: of a third-party file.
    """

    size: int
    batch: int
    channels_first: bool
    dtype: np.dtype[Any]
    contract: Contract | None = None
    encoding: Encoding = Encoding()

    @classmethod
    def of(
        cls,
        inputs: Sequence[TensorSpec],
        metadata: Mapping[str, str],
        where: str,
        encoding: Encoding = Encoding(),
    ) -> Layout:
        """Derive the layout from the input tensor and the file's metadata.

        Raises: ConfigError for several inputs, when the input is not a batch of square RGB images, and when it
        contradicts the metadata; DataError for a damaged description.
        """
        if len(inputs) != 1:
            names = ", ".join(f"'{spec.name}' {list(spec.shape)}" for spec in inputs) or "none"
            raise ConfigError(f"the file has {len(inputs)} inputs, a classifier takes one image: {names}", where=where)
        (spec,) = inputs
        shape, contract = spec.shape, None
        try:
            dtype = np.dtype(spec.dtype)
        except TypeError:
            raise ConfigError(f"input '{spec.name}' is {spec.dtype}, not numbers", where=where) from None
        if KEY in metadata:
            contract = CONTRACTS[ModelDescription.from_json(metadata[KEY], where).input]
            if contract.dtype != dtype.name:
                raise ConfigError(
                    f"the file's description says its input is {contract.dtype}, but it is {dtype.name}", where=where
                )
        elif (problem := encoding.problem(dtype)) is not None:
            raise ConfigError(f"input '{spec.name}' {problem}", where=where)
        if len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2]:
            return cls(shape[1], shape[0], False, dtype, contract, encoding)
        if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]:
            return cls(shape[2], shape[0], True, dtype, contract, encoding)
        raise ConfigError(
            f"input '{spec.name}' has shape {list(shape)}; this needs square RGB images, NHWC or NCHW", where=where
        )

    @property
    def note(self) -> str:
        """Describe the pixels that a third-party file is given."""
        return self.encoding.note(self.dtype)

    def arrange(self, pixels: Pixels) -> NDArray[Any]:
        """Convert (n, S, S, 3) uint8 to the file's layout, dtype and range, contiguous.

        Raises: ConfigError when the size of the images differs from the file's input.
        """
        if self.size not in (-1, pixels.shape[1]):
            raise ConfigError(f"the model needs images of {self.size} pixels, these have {pixels.shape[1]}")
        encoded = pixels if self.contract is not None else self.encoding.encode(pixels, self.dtype)
        arranged = encoded.transpose(0, 3, 1, 2) if self.channels_first else encoded
        if self.contract is not None:
            return self.contract.encode(arranged)
        return np.ascontiguousarray(arranged)

    def batches(self, pixels: Pixels) -> Iterator[tuple[Pixels, int]]:
        """Split into batches: yield (images, number of valid images); the last image pads a fixed batch."""
        step = BATCH if self.batch == -1 else self.batch
        for start in range(0, len(pixels), step):
            batch = pixels[start : start + step]
            count = len(batch)
            if self.batch != -1 and count < step:
                batch = np.concatenate([batch, np.repeat(batch[-1:], step - count, axis=0)])
            yield batch, count


def input_side(session: Session, free: int) -> int:
    """Return the side of a session's input images in pixels; `free` if any size is accepted."""
    side = max(session.inputs[0].shape[1:3])  # NHWC: S, S; NCHW: 3, S
    return side if side > 3 else free
