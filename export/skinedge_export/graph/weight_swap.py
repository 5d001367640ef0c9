"""One trace for all networks of one architecture: another one's weights take the place of the traced one's.

Tracing takes seconds, and what int8 is made from differs from the fp32 network in its weights alone. So the converter's
graph is used again where every tensor that differs is found in it, as it is or with its axes in another order, and
where it then says what PyTorch says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skinedge_export.converter import ExportJob
from skinedge_export.graph.graph import pixel_model

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
Weights = Mapping[str, NDArray[Any]]
Said = Mapping[str, NDArray[Any]]
Run = Callable[[T, Sequence[NDArray[Any]]], Sequence[Said]]
TOLERANCE = 1e-3  # of any output, absolute and relative: a weight that was left behind changes more than rounding does


@dataclass(frozen=True)
class Traced:
    """A converter's graph, and the weights of the network that it was traced from, by name."""

    graph: Any
    weights: Weights


class WeightSwap:
    """From one network's constants to those of another one."""

    def __init__(self, before: Weights, after: Weights) -> None:
        """Of the same names, shapes and types."""
        self._after = after
        self._places: dict[bytes, list[tuple[str, tuple[int, ...]]]] = {}
        self._missing = {name for name in after if before[name].tobytes() != after[name].tobytes()}
        self._ambiguous = False
        for name, values in before.items():
            for order in _orders(values.shape):
                alike = self._places.setdefault(_key(values.transpose(order)), [])
                alike.append((name, order))
                if len(alike) > 1:
                    self._ambiguous |= _key(self._at(*alike[0])) != _key(self._at(name, order))

    def _at(self, name: str, order: tuple[int, ...]) -> NDArray[Any]:
        return self._after[name].transpose(order)

    def of(self, constant: NDArray[Any]) -> NDArray[Any] | None:
        """What takes the place of a constant of the graph, of its shape; None where it is none of the weights."""
        found = self._places.get(_key(constant))
        if found is None:
            return None
        self._missing.difference_update(name for name, _ in found)
        return np.ascontiguousarray(self._at(*found[0])).reshape(constant.shape)

    @property
    def complete(self) -> bool:
        """Whether every weight that differs was asked for, and none could be taken for another."""
        return not (self._missing or self._ambiguous)


def graph_of(
    job: ExportJob,
    kind: str,
    trace: Callable[[nn.Module, ExportJob], T],
    renewed: Callable[[T, WeightSwap], T],
    run: Run[T],
) -> T:
    """The fp32 graph of the job's network, traced only where no job of the same form has traced a like one.

    kind: of graph, which converters of several formats may share; trace: from what `wrapper.pixel_model` returns;
    renewed: a copy of a graph with what the renewal gives for its constants; run: a graph's outputs for each of some
    encoded images, by name.
    """
    model = pixel_model(job.network, job.description.preprocess, job.form)
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
    earlier: Traced | None = job.traces.get(kind)
    if earlier and _shapes(earlier.weights) == _shapes(weights):
        renewal = WeightSwap(earlier.weights, weights)
        graph = renewed(earlier.graph, renewal)
        if renewal.complete and _says_the_same(graph, run, model, job):
            return graph
    graph = trace(model, job)
    job.traces[kind] = Traced(graph, weights)
    return graph


def _says_the_same(graph: T, run: Run[T], model: nn.Module, job: ExportJob) -> bool:
    """Of images of noise, dark and bright ones, since the network may be sure of one of them."""
    import torch

    shape, rng = (1, *[job.description.preprocess.size] * 2, 3), np.random.default_rng(0)
    noise = [rng.integers(0, brightest, shape, dtype=np.uint8) for brightest in (32, 64, 128, 256)]
    images = [job.form.input.encode(pixels) for pixels in noise]
    with torch.no_grad():  # not inference_mode: the same model may be traced next
        expected = [model(torch.from_numpy(image)) for image in images]
    return all(
        np.allclose(said[name], wanted[name], TOLERANCE, TOLERANCE)
        for said, wanted in zip(run(graph, images), expected, strict=True)
        for name in job.form.outputs
    )


def _orders(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every order of the axes that are longer than 1, the others first: theirs does not change the bytes."""
    long = [axis for axis, length in enumerate(shape) if length > 1]
    short = [axis for axis, length in enumerate(shape) if length <= 1]
    return ((*short, *order) for order in permutations(long))


def _key(values: NDArray[Any]) -> bytes:
    return hashlib.blake2b(values.tobytes(), digest_size=16, person=values.dtype.name.encode()).digest()


def _shapes(weights: Weights) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (values.shape, values.dtype.name) for name, values in weights.items()}
