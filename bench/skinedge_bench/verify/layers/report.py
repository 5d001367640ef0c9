"""What `verify --layers` reports: every layer of every small file, worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

METHOD = (
    "each layer's output against the fp32 file's on the same images; behind the first weights and before the logits "
    "a channel counts up to its own best factor, since int8 networks are equalized: an error that is nothing but a "
    "wrong factor shows in the layers after it"
)


@dataclass(frozen=True)
class Layer:
    """One operation that both files compute.

    place: in the graph, from 0; name, kind: for people, and of the operation; tensor: its name in the graph;
    sqnr_db: signal to quantization noise, 10 log10(sum s^2 / sum (s - q)^2), at most 120, NaN where fp32 is all zero;
    cosine: of fp32 and small values, the mean over channels; added: noise as a share of the signal's energy
    (1 / SQNR, at most 1), less that of its worst input, 0 for pixels (below 0: it averages noise away); channels: how
    many, of which silent ones say nothing in fp32, and lost ones nothing, or the opposite, in the small file;
    rescaled: compared up to a factor a channel.
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
    """One file. layers: in graph order; unmatched: operations that are not found in the fp32 file."""

    name: str
    sha256: str
    reference: str
    reference_sha256: str
    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def worst_first(self) -> list[Layer]:
        """By SQNR; layers that are zero in fp32 come last."""
        return sorted(self.layers, key=lambda layer: (math.isnan(layer.sqnr_db), layer.sqnr_db, layer.place))

    @property
    def steepest(self) -> Layer | None:
        """The layer that adds most noise to what it reads, None where nothing can be said."""
        known = [layer for layer in self.layers if not math.isnan(layer.added)]
        return max(known, key=lambda layer: layer.added, default=None)


@dataclass(frozen=True)
class LayersReport:
    """images: which, as a sentence; n: how many; model_id, model_sha256: of the run and its merged weights."""

    files: tuple[FileLayers, ...]
    images: str
    n: int
    model_id: str | None = None
    model_sha256: str | None = None

    def document(self) -> Mapping[str, object]:
        """The JSON form; undefined figures are NaN (null once printed)."""
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
