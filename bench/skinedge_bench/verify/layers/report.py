"""The report of `verify --layers`: every layer of every small file, worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

METHOD = (
    "output of each layer compared with the fp32 file's on the same images; after the first weights and before the "
    "logits each channel is first scaled by its best factor, since int8 networks are equalized: an error that is only "
    "a wrong factor shows in the layers after it"
)


@dataclass(frozen=True)
class Layer:
    """One operation that both files compute.

    place: position in the graph, from 0; name: for display; kind: of the operation; tensor: name in the graph;
    sqnr_db: signal to quantization noise, 10 log10(sum s^2 / sum (s - q)^2), at most 120, NaN if fp32 is all zero;
    cosine: of fp32 and small values, the mean over channels; added: noise as a share of the signal's energy
    (1 / SQNR, at most 1), minus that of its worst input, 0 for pixels (below 0: it averages noise out); channels: their
    number; silent: channels that are about zero in fp32; lost: channels that are zero or reversed in the small file;
    rescaled: whether each channel is compared up to a factor.
    """

    place: int
    name: str
    kind: str
    tensor: str
    sqnr_db: float
    cosine: float
    added: float
    channels: int
    silent: int
    lost: int
    rescaled: bool


@dataclass(frozen=True)
class FileLayers:
    """One file. layers: in graph order; unmatched: operations without a match in the fp32 file."""

    name: str
    sha256: str
    reference: str
    reference_sha256: str
    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def worst_first(self) -> list[Layer]:
        """The layers by SQNR; layers that are zero in fp32 come last."""
        return sorted(self.layers, key=lambda layer: (math.isnan(layer.sqnr_db), layer.sqnr_db, layer.place))

    @property
    def steepest(self) -> Layer | None:
        """The layer that adds most noise to its inputs, None if no layer has a value."""
        defined = [layer for layer in self.layers if not math.isnan(layer.added)]
        return max(defined, key=lambda layer: layer.added, default=None)


@dataclass(frozen=True)
class LayersReport:
    """images: description of the images; n: their number; model_id, model_sha256: of the run and its merged weights."""

    files: tuple[FileLayers, ...]
    images: str
    n: int
    model_id: str | None = None
    model_sha256: str | None = None

    def document(self) -> Mapping[str, object]:
        """Return as JSON; undefined values are NaN (null once printed)."""
        return {
            "images": self.images,
            "n": self.n,
            "method": METHOD,
            "files": {
                file.name: {
                    "sha256": file.sha256,
                    "reference": file.reference,
                    "reference_sha256": file.reference_sha256,
                    "adds_most": None if file.steepest is None else file.steepest.name,
                    "layers": [asdict(layer) for layer in file.worst_first],
                    "unmatched": list(file.unmatched),
                }
                for file in self.files
            },
        }
