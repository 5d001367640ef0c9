"""Input contracts: the units in which a model file takes an image's pixels.

Every file normalizes inside its graph. The contract only sets the dtype and range of the input, so that an app written
for another model needs no change. A file states its contract in its metadata (`ModelDescription.input`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError

# Names of a model file's outputs; every file has the first.
PROBABILITIES = "probabilities"
LOGITS = "logits"
HEATMAP = "heatmap"


@dataclass(frozen=True)
class Contract:
    """input = (pixel - offset) / scale, for pixels 0..255 in RGB order.

    dtype: of the input tensor, 'float32' or 'uint8'; used_by: software with this convention.
    """

    name: str
    dtype: str
    offset: float
    scale: float
    used_by: str

    def encode(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Convert uint8 pixels, in any layout, to a contiguous input of type `dtype`."""
        if (self.offset, self.scale) == (0, 1):
            return np.ascontiguousarray(pixels, dtype=self.dtype)
        scaled = (pixels.astype(np.float32) - np.float32(self.offset)) / np.float32(self.scale)
        return np.ascontiguousarray(scaled, dtype=self.dtype)

    @property
    def range(self) -> tuple[float, float]:
        """Input values of black and white."""
        return (0 - self.offset) / self.scale, (255 - self.offset) / self.scale


CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract
    for contract in (
        Contract("pixels", "float32", 0, 1, "skinedge: RGB 0..255 as it is"),
        Contract("google", "float32", 127.5, 127.5, "Google's image-classification samples: [-1, 1]"),
        Contract("qualcomm", "float32", 0, 255, "Qualcomm AI Hub's samples: [0, 1]"),
        Contract("uint8", "uint8", 0, 1, "cameras and MediaPipe: bytes, no arithmetic"),
    )
}


def contract(name: str) -> Contract:
    """Return the contract called `name`; raises ConfigError for an unknown one."""
    if name not in CONTRACTS:
        raise ConfigError(f"unknown input contract '{name}'", todo=f"Known: {', '.join(CONTRACTS)}.")
    return CONTRACTS[name]
