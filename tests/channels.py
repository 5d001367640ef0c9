"""Hypothesis strategies for numerically difficult channels of float32 values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from hypothesis import strategies as st
from numpy.random import Generator
from numpy.typing import NDArray

Values = NDArray[np.float32]


def _saturated(rng: Generator, count: int) -> Values:
    """Return the values of a saturated ReLU6: 6, sometimes slightly less; variance about 3e-4."""
    below = np.where(rng.random(count) < 0.02, rng.exponential(0.1, count), 0)
    return np.asarray(np.clip(6 - below, 0, 6), np.float32)


def _one_spike(rng: Generator, count: int) -> Values:
    return np.asarray(np.eye(1, count, int(rng.integers(count)))[0] * 6, np.float32)


KINDS: Mapping[str, Callable[[Generator, int], Values]] = {
    "ordinary": lambda rng, count: rng.normal(0.5, 1, count).astype(np.float32),
    "constant": lambda rng, count: np.full(count, rng.uniform(-6, 6), np.float32),
    "saturated": _saturated,
    "nearly constant": lambda rng, count: np.nextafter(np.float32(6), np.float32(rng.choice([0, 7], count))),
    "dead": lambda rng, count: np.zeros(count, np.float32),
    "one spike": _one_spike,
    "huge": lambda rng, count: (1e30 * rng.normal(1, 1e-3, count)).astype(np.float32),
    "largest": lambda rng, count: (1e38 * rng.uniform(-3, 3, count)).astype(np.float32),
    "tiny": lambda rng, count: (1e-30 * rng.normal(1, 1, count)).astype(np.float32),
}


@st.composite
def channels(draw: st.DrawFn, least: int = 1, most: int = 12, count: int = 96) -> Values:
    """Draw (count, C) float32: one column per channel; the last may be a copy of the first."""
    names = sorted(KINDS.keys() - {"largest"})  # "largest": squares fit float64, but sums overflow float32
    kinds = draw(st.lists(st.sampled_from(names), min_size=least, max_size=most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns = [KINDS[kind](rng, count) for kind in kinds]
    if draw(st.booleans()):
        columns[-1] = columns[0]
    return np.stack(columns, axis=1)
