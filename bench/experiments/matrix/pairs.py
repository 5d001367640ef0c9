"""Rows of options in which every pair of values occurs (pairwise testing; greedy, as in AETG, Cohen et al. 1997)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from random import Random
from typing import Any

TRIES = 30  # random rows to choose from
Row = Mapping[str, Any]


def all_pairs(factors: Mapping[str, Sequence[Any]], rng: Random) -> list[dict[str, Any]]:
    """Return rows, each with a value of every factor, so that any two values of two factors share a row."""
    missing = {
        ((one, a), (other, b))
        for one, other in combinations(factors, 2)
        for a in range(len(factors[one]))
        for b in range(len(factors[other]))
    }
    rows = []
    while missing:
        needed = min(missing)  # not in the order of the set, which differs between processes
        drawn = [
            {name: rng.randrange(len(values)) for name, values in factors.items()} | dict(needed) for _ in range(TRIES)
        ]
        best = max(drawn, key=lambda row: len(missing & _pairs(row)))
        missing -= _pairs(best)
        rows.append({name: factors[name][index] for name, index in best.items()})
    return rows


def _pairs(row: Mapping[str, int]) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    return set(combinations(row.items(), 2))
