"""Verdicts are counted apart, in words; the worst of several is the verdict on all."""

from __future__ import annotations

from itertools import product

import pytest

from skinedge.stats.verdicts import WORDS, Verdict, counted, counted_gates, word, worst_of


def test_each_verdict_is_counted_apart() -> None:
    verdicts: list[Verdict] = ["not measured", *["pass"] * 7, *["inconclusive"] * 3]  # type: ignore[list-item]
    assert counted(verdicts) == "7 passed, 3 inconclusive, 1 not measured"
    assert counted([*verdicts, "fail"]) == "7 passed, 1 failed, 3 inconclusive, 1 not measured"
    assert counted([]) == "none"
    assert counted_gates(["pass"], "in 1 file") == "1 gate in 1 file: 1 passed"
    counts = counted_gates(iter(verdicts), "of verify (test images)")
    assert counts == "11 gates of verify (test images): 7 passed, 3 inconclusive, 1 not measured"


@pytest.mark.parametrize("verdicts", list(product(WORDS, repeat=3)))
def test_the_counts_add_up_and_name_the_worst(verdicts: tuple[Verdict, ...]) -> None:
    counts = [part.partition(" ") for part in counted(verdicts).split(", ")]
    assert {name: int(number) for number, _, name in counts} == {word(v): verdicts.count(v) for v in verdicts}
    worst = worst_of(verdicts)
    assert worst in verdicts
    assert (worst == "pass") == (set(verdicts) == {"pass"}) and (worst == "fail") == ("fail" in verdicts)
