"""What goes into a file and what comes out of it, whatever its format and precision."""

from __future__ import annotations

from dataclasses import dataclass

from skinedge.core import input_format
from skinedge.core.input_format import HEATMAP, LOGITS, PROBABILITIES, Contract


@dataclass(frozen=True)
class IOSignature:
    """contract: name of the input's contract (`core.input_format`); logits, heatmap: outputs besides probabilities."""

    contract: str = "pixels"
    logits: bool = False
    heatmap: bool = False

    def __post_init__(self) -> None:
        input_format.contract(self.contract)  # raises ConfigError for an unknown one

    @property
    def input(self) -> Contract:
        return input_format.contract(self.contract)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the file's order."""
        return (PROBABILITIES, *[LOGITS] * self.logits, *[HEATMAP] * self.heatmap)

    @property
    def parts(self) -> tuple[str, ...]:
        """What it adds to a file's name."""
        named = [self.contract] if self.contract != IOSignature.contract else []
        return (*named, *self.outputs[1:])
