"""Rows of options in which every pair of values occurs (pairwise testing; greedy, as in AETG, Cohen et al. 1997)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from random import Random
from typing import Any

TRIES = 60  # random rows to choose from
Row = Mapping[str, Any]


def all_pairs(
    factors: Mapping[str, Sequence[Any]], rng: Random, allowed: Callable[[Row], bool] = lambda row: True
) -> list[Row]:
    """Return allowed rows, each with a value of every factor, so that any two values of two factors share a row.

    Pairs that no allowed row was found for are left out.
    """
    missing = {
        ((one, a), (other, b))
        for one, other in combinations(factors, 2)
        for a in range(len(factors[one]))
        for b in range(len(factors[other]))
    }
    rows: list[Row] = []
    while missing:
        needed = min(missing)  # not in the order of the set, which differs between processes
        drawn = [
            {name: rng.randrange(len(values)) for name, values in factors.items()} | dict(needed) for _ in range(TRIES)
        ]
        drawn = [row for row in drawn if allowed(_values(factors, row))]
        best = max(drawn, key=lambda row: len(missing & _pairs(row)), default=None)
        missing -= {needed} if best is None else _pairs(best)
        rows += [] if best is None else [_values(factors, best)]
    return rows


def _values(factors: Mapping[str, Sequence[Any]], row: Mapping[str, int]) -> Row:
    return {name: factors[name][index] for name, index in row.items()}


def _pairs(row: Mapping[str, int]) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    return set(combinations(row.items(), 2))
