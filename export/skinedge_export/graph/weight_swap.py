"""Reuse of one traced graph for all networks of an architecture, by swapping its weights.

Tracing takes seconds, and the network that int8 is made from differs from the fp32 network in its weights alone. So a
traced graph is reused if every weight that differs was found in it, and if it then computes what PyTorch computes.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from skinedge.core.preprocess import Preprocess
from skinedge_export.graph.graph import pixel_model
from skinedge_export.signature import IOSignature

if TYPE_CHECKING:
    from torch import nn

G = TypeVar("G")
Weights = Mapping[str, NDArray[Any]]
NamedOutputs = Mapping[str, NDArray[Any]]
TOLERANCE = 1e-3  # of any output, absolute and relative: a weight that was not replaced changes more than rounding does


@dataclass(frozen=True)
class Tracer(ABC, Generic[G]):
    """Conversion of networks to fp32 graphs of one kind; equal tracers make interchangeable graphs.

    rule: normalization inside the graph; form: I/O signature; architecture: for error messages.
    """

    rule: Preprocess
    form: IOSignature
    architecture: str

    @abstractmethod
    def trace(self, model: nn.Module) -> G:
        """Convert a model that `graph.pixel_model` returned."""

    @abstractmethod
    def with_weights(self, graph: G, swap: WeightSwap) -> G:
        """Return a copy of the graph in which the swap replaced constants."""

    @abstractmethod
    def run(self, graph: G, images: Sequence[NDArray[Any]]) -> Sequence[NamedOutputs]:
        """Return the graph's outputs, by name, for each encoded image (1, S, S, 3)."""


class WeightSwap:
    """Replacement of one network's constants in a graph by another network's.

    before, after: weights of the same names, shapes and dtypes.
    """

    def __init__(self, before: Weights, after: Weights) -> None:
        self._before = before
        self._after = after
        self._ambiguous = False
        alike: dict[bytes, list[str]] = defaultdict(list)
        for name, values in before.items():
            alike[_key(values)].append(name)
        # a converter may store equal weights once: if they differ afterwards, each must have a constant of its own
        self._missing = {name for names in alike.values() if self._differ(names) for name in names}

    def _differ(self, names: Sequence[str]) -> bool:
        """Return True if one of these weights changes, all of which have the same values before."""
        return any(_key(self._after[name]) != _key(self._before[names[0]]) for name in names)

    def by_name(self, name: str, constant: NDArray[Any]) -> NDArray[Any] | None:
        """Return the new values of a constant that has a weight's name, shape and values; None for any other."""
        values = self._before.get(name)
        if values is None or values.shape != constant.shape or _key(values) != _key(constant):
            return None
        self._missing.discard(name)
        return np.ascontiguousarray(self._after[name]).reshape(constant.shape)  # which makes a scalar (1,)

    def by_values(self, constant: NDArray[Any]) -> NDArray[Any] | None:
        """Return the new values, in its shape, of a constant that is a weight with its axes in any order; else None."""
        sources = self._sources.get(_key(constant))
        if sources is None:
            return None
        self._missing.difference_update(name for name, _ in sources)
        return np.ascontiguousarray(self._transposed(*sources[0])).reshape(constant.shape)

    @cached_property
    def _sources(self) -> dict[bytes, list[tuple[str, tuple[int, ...]]]]:
        """Hash of values -> names and axis orders of the weights that have them."""
        sources: dict[bytes, list[tuple[str, tuple[int, ...]]]] = {}
        for name, values in self._before.items():
            for order in _orders(values.shape):
                alike = sources.setdefault(_key(values.transpose(order)), [])
                alike.append((name, order))
                if len(alike) > 1:
                    self._ambiguous |= _key(self._transposed(*alike[0])) != _key(self._transposed(name, order))
        return sources

    def _transposed(self, name: str, order: tuple[int, ...]) -> NDArray[Any]:
        return self._after[name].transpose(order)

    @property
    def complete(self) -> bool:
        """Return True if every weight that differs was replaced, and none could have been mistaken for another."""
        return not (self._missing or self._ambiguous)


class GraphCache:
    """fp32 graphs of networks; a network is traced only if no graph of another one takes its weights."""

    def __init__(self) -> None:
        self._graphs: WeakKeyDictionary[nn.Module, dict[Tracer[Any], Any]] = WeakKeyDictionary()
        self._traced: dict[Tracer[Any], tuple[Any, Weights]] = {}

    def fp32(self, tracer: Tracer[G], network: nn.Module) -> G:
        """Return the network's fp32 graph, which must not be changed.

        Raises: ConfigError for a heatmap of a network that has none; SkinedgeError if tracing fails.
        """
        graphs = self._graphs.setdefault(network, {})
        if tracer not in graphs:
            graphs[tracer] = self._swapped_or_traced(tracer, network)
        graph: G = graphs[tracer]
        return graph

    def _swapped_or_traced(self, tracer: Tracer[G], network: nn.Module) -> G:
        model = pixel_model(network, tracer.rule, tracer.form)
        weights = {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
        traced, traced_weights = self._traced.get(tracer, (None, {}))
        if traced is not None and _shapes(traced_weights) == _shapes(weights):
            swap = WeightSwap(traced_weights, weights)
            graph: G = tracer.with_weights(traced, swap)
            if swap.complete and _same_as_pytorch(graph, tracer, model):
                return graph
        graph = tracer.trace(model)
        self._traced[tracer] = (graph, weights)
        return graph


def _same_as_pytorch(graph: G, tracer: Tracer[G], model: nn.Module) -> bool:
    """Compare all outputs for dark and bright images of noise: the network may be certain of some of them."""
    import torch

    shape, rng = (1, tracer.rule.size, tracer.rule.size, 3), np.random.default_rng(0)
    noise = [rng.integers(0, brightest, shape, dtype=np.uint8) for brightest in (32, 64, 128, 256)]
    images = [tracer.form.input.encode(pixels) for pixels in noise]
    with torch.no_grad():  # not inference_mode: the same model may be traced next
        expected = [model(torch.from_numpy(image)) for image in images]
    return all(
        np.allclose(outputs[name], reference[name], TOLERANCE, TOLERANCE)
        for outputs, reference in zip(tracer.run(graph, images), expected, strict=True)
        for name in tracer.form.outputs
    )


def _orders(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield every order of the axes longer than 1, after the other axes, whose order does not change the bytes."""
    long = [axis for axis, length in enumerate(shape) if length > 1]
    short = [axis for axis, length in enumerate(shape) if length <= 1]
    return ((*short, *order) for order in permutations(long))


def _key(values: NDArray[Any]) -> bytes:
    return hashlib.blake2b(values.tobytes(), digest_size=16, person=values.dtype.name.encode()).digest()


def _shapes(weights: Weights) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (values.shape, values.dtype.name) for name, values in weights.items()}
