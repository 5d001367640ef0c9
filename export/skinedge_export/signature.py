"""I/O signature of a file: its input contract and outputs, independent of format and precision."""

from __future__ import annotations

from dataclasses import dataclass

from skinedge.core import input_format
from skinedge.core.input_format import HEATMAP, LOGITS, PROBABILITIES, Contract


@dataclass(frozen=True)
class IOSignature:
    """Input and outputs of a file.

    contract: name of the input contract (`core.input_format`); logits, heatmap: outputs besides probabilities.
    """

    contract: str = "pixels"
    logits: bool = False
    heatmap: bool = False

    def __post_init__(self) -> None:
        input_format.contract(self.contract)  # raises ConfigError for an unknown one

    @property
    def input(self) -> Contract:
        """Input contract."""
        return input_format.contract(self.contract)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the order of the file."""
        return (PROBABILITIES, *[LOGITS] * self.logits, *[HEATMAP] * self.heatmap)

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of a file name for whatever differs from the default."""
        contract = [self.contract] if self.contract != IOSignature.contract else []
        return (*contract, *self.outputs[1:])
