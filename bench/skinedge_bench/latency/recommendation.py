"""Recommendation of a file and runtime for this device, with reasons. A pure function of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skinedge.stats.verdicts import Verdict, word
from skinedge_bench.latency.row import ParityVerdict, Row

_ELSEWHERE = "on another instruction set (check it here with: skinedge verify)"
PARITY: Mapping[ParityVerdict | None, str] = {
    "reference": "it is the merged model itself",
    "pass": f"parity report: {word('pass')}",
    "pass_elsewhere": f"parity report: {word('pass')}, {_ELSEWHERE}",
    "inconclusive": f"parity report: {word('inconclusive')} (too few images)",
    "inconclusive_elsewhere": f"parity report: {word('inconclusive')} (too few images), {_ELSEWHERE}",
    "inconclusive_strict": f"parity report: {word('inconclusive')}, which --strict refuses",
    "fail": f"parity report: {word('fail')}",
    None: f"parity report: {word('not measured')} on test images for this file: run skinedge verify",
}


@dataclass(frozen=True)
class Recommendation:
    """file, runtime, threads: None without a recommendation; reasons: sentences, the recommendation first."""

    file: str | None
    runtime: str | None
    threads: int | None
    reasons: tuple[str, ...]


def recommend(rows: Sequence[Row], headline: int, int8_dot_product: bool | None) -> Recommendation:
    """Recommend the fastest row that no gate refuses: golden vectors here, and a parity report with its sha256.

    headline: deciding percentile, 50 or 90; int8_dot_product: whether the CPU has one, None if unknown.
    """
    timed = sorted((r for r in rows if r.headline_ms(headline) is not None), key=lambda r: _ms(r, headline))
    passing = [row for row in timed if obstacle(row) is None]
    if not timed:
        return Recommendation(None, None, None, ("no recommendation: nothing was timed",))
    if not passing:
        refused = [f"{_name(row)}: {obstacle(row)}" for row in timed]
        return Recommendation(None, None, None, ("no recommendation: the gates refuse every file here", *refused))
    best, others = passing[0], passing[1:]
    faster = [row for row in timed if _ms(row, headline) < _ms(best, headline)]
    verdicts = f"{_golden(best.golden)}; {PARITY[best.parity]}"
    reasons = [
        f"recommended: {_name(best)}, p{headline} {_ms(best, headline):.2f} ms; {verdicts}",
        *([_compare_to_next(best, others[0], headline)] if others else []),
        *_int8_gain(best, others, headline, int8_dot_product),
        *(f"faster, but not recommended: {_name(row)}, {_ms(row, headline):.2f} ms: {obstacle(row)}" for row in faster),
        *([f"measure again: this timing is not trustworthy ({best.reasons[0]})"] if best.reasons else []),
    ]
    return Recommendation(best.file, best.runtime, best.threads, tuple(reasons))


def obstacle(row: Row) -> str | None:
    """Return the reason not to recommend a row, regardless of its speed; None without one."""
    if row.golden is None:
        return "it has no golden vectors"
    if row.golden in ("fail", "not measured"):
        return _golden(row.golden)
    if row.parity in (None, "fail", "inconclusive_strict"):
        return PARITY[row.parity]
    if row.golden == "inconclusive" and row.parity in ("pass_elsewhere", "inconclusive_elsewhere"):
        return f"{_golden(row.golden)}; {PARITY[row.parity]}"
    return None


def _golden(verdict: Verdict | None) -> str:
    return f"golden vectors here: {'none' if verdict is None else word(verdict)}"


def _compare_to_next(best: Row, other: Row, headline: int) -> str:
    """Return the speed-up over the next row, and whether their intervals overlap."""
    text = f"{_ms(other, headline) / _ms(best, headline):.2f} times as fast as the next, {_name(other)}"
    if best.p50_interval_ms is None or other.p50_interval_ms is None:
        return f"{text}; too few blocks for intervals"
    (low, high), (other_low, other_high) = best.p50_interval_ms, other.p50_interval_ms
    if low <= other_high and other_low <= high:
        return f"{text}; their 95 % intervals of p50 overlap, so either is suitable"
    return f"{text}; their 95 % intervals of p50 do not overlap"


def _int8_gain(best: Row, others: Sequence[Row], headline: int, int8_dot_product: bool | None) -> list[str]:
    """Return a sentence on the gain of int8 here, if there is a file to compare with."""
    if best.precision.startswith("int8"):
        gain = best.ratio_to_fp32
        return [] if gain is None else [f"{gain:.2f} times as fast as fp32 in the same runtime"]
    small = next((row for row in others if row.precision.startswith("int8")), None)
    if small is None:
        return []
    reason = ", since this CPU has no int8 dot product" if int8_dot_product is False else ""
    share = _ms(small, headline) / _ms(best, headline)
    sizes = f"{small.size_bytes / 1e6:.1f} MB instead of {best.size_bytes / 1e6:.1f}"
    return [f"int8 gains nothing here{reason}: {_name(small)} takes {share:.2f} times as long, and is {sizes}"]


def _name(row: Row) -> str:
    threads = f" with {row.threads} threads" if row.threads > 1 else ""
    return f"{row.file} in {row.runtime}{threads}"


def _ms(row: Row, headline: int) -> float:
    value = row.headline_ms(headline)
    return float("inf") if value is None else value
