"""Verdicts of gates: their values in documents, the word shown for each, and the sentence that counts them.

Every command, report and card takes its words from here, so that one verdict has one word everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

Verdict = Literal["pass", "fail", "inconclusive", "not measured"]
WORDS: Mapping[Verdict, str] = {  # in the order of the counts
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "not measured": "not measured",
}
WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "not measured", "pass")


def word(verdict: Verdict) -> str:
    """Return the word shown for a verdict: passed, failed, inconclusive (too few images) or not measured."""
    return WORDS[verdict]


def worst_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict, 'pass' for none."""
    present = set(verdicts)
    return next((verdict for verdict in WORST_FIRST if verdict in present), "pass")


def counted(verdicts: Iterable[Verdict]) -> str:
    """Count each verdict apart, for example '7 passed, 3 inconclusive, 1 not measured'; 'none' without verdicts."""
    counts = Counter(verdicts)
    return ", ".join(f"{counts[verdict]} {WORDS[verdict]}" for verdict in WORDS if counts[verdict]) or "none"


def counted_gates(verdicts: Iterable[Verdict], about: str) -> str:
    """Count gates and say which, for example '6 gates of export (validation images): 3 passed, 3 inconclusive'.

    about: the command that evaluates them and its images, or the number of files.
    """
    present = list(verdicts)
    return f"{len(present)} {'gate' if len(present) == 1 else 'gates'} {about}: {counted(present)}"
