"""Which of the files and runtimes that were measured to use on this device, and why. A pure function of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinedge_bench.latency.row import Row

GOLDEN = {
    "pass": "the golden vectors pass here",
    "underpowered": "the golden vectors are too few to tell here, and do not fail",
}
PARITY = {
    "reference": "it is the merged model itself",
    "pass": "its parity report passes",
    "pass_elsewhere": "its parity report passes, made on another instruction set: skinedge verify makes it here",
}


@dataclass(frozen=True)
class Recommendation:
    """file, runtime, threads: None where nothing is recommended; reasons: sentences, the recommendation first."""

    file: str | None
    runtime: str | None
    threads: int | None
    reasons: tuple[str, ...]


def recommend(rows: Sequence[Row], headline: int, int8_dot_product: bool | None) -> Recommendation:
    """The fastest that passed its gates here: golden vectors on this machine, and a parity report for its very bytes.

    headline: percentile that decides, 50 or 90; int8_dot_product: whether the CPU has one, None where unknown.
    """
    timed = sorted((r for r in rows if r.headline_ms(headline) is not None), key=lambda r: _ms(r, headline))
    passing = [row for row in timed if obstacle(row) is None]
    if not timed:
        return Recommendation(None, None, None, ("nothing is recommended: nothing was timed",))
    if not passing:
        refused = [f"{_name(row)}: {obstacle(row)}" for row in timed]
        return Recommendation(None, None, None, ("nothing is recommended: no file passed its gates here", *refused))
    best, others = passing[0], passing[1:]
    faster = [row for row in timed if _ms(row, headline) < _ms(best, headline)]
    gates = f"{GOLDEN[best.golden or '']}; {PARITY[best.parity or '']}"
    reasons = [
        f"recommended here: {_name(best)}, p{headline} {_ms(best, headline):.2f} ms; {gates}",
        *([_beside(best, others[0], headline)] if others else []),
        *_about_int8(best, others, headline, int8_dot_product),
        *(f"faster, but not recommended: {_name(row)}, {_ms(row, headline):.2f} ms: {obstacle(row)}" for row in faster),
        *([f"but measure again: this timing is not trustworthy ({best.reasons[0]})"] if best.reasons else []),
    ]
    return Recommendation(best.file, best.runtime, best.threads, tuple(reasons))


def obstacle(row: Row) -> str | None:
    """Why a row is not recommended, however fast it is; None where nothing speaks against it."""
    if row.golden is None:
        return "it has no golden vectors to replay"
    if row.golden == "fail":
        return "the golden vectors fail here"
    if row.parity is None:
        return "no parity report on test images speaks of these bytes: skinedge verify makes one"
    if row.golden == "underpowered" and row.parity == "pass_elsewhere":
        return (
            "nothing shows that it is right here, where the golden vectors are too few and its parity report is of "
            "another instruction set: skinedge verify makes one here"
        )
    return "its parity report says that a gate failed" if row.parity == "fail" else None


def _beside(best: Row, other: Row, headline: int) -> str:
    """How far the next is behind, and whether that is sure."""
    text = f"{_ms(other, headline) / _ms(best, headline):.2f} times as fast as the next, {_name(other)}"
    if best.p50_interval_ms is None or other.p50_interval_ms is None:
        return f"{text}; too few blocks to say how surely"
    (low, high), (other_low, other_high) = best.p50_interval_ms, other.p50_interval_ms
    if low <= other_high and other_low <= high:
        return f"{text}; their 95 % intervals of p50 overlap, so either will do"
    return f"{text}; their 95 % intervals of p50 do not overlap"


def _about_int8(best: Row, others: Sequence[Row], headline: int, int8_dot_product: bool | None) -> list[str]:
    """What int8 gains here, where there is something to hold it against."""
    if best.precision.startswith("int8"):
        gain = best.ratio_to_fp32
        return [] if gain is None else [f"{gain:.2f} times as fast as fp32 in the same runtime"]
    small = next((row for row in others if row.precision.startswith("int8")), None)
    if small is None:
        return []
    why = ", since this CPU has no int8 dot product" if int8_dot_product is False else ""
    share = _ms(small, headline) / _ms(best, headline)
    return [
        f"int8 gains nothing here{why}: {_name(small)} takes {share:.2f} times as long, and {_megabytes(best, small)}"
    ]


def _megabytes(best: Row, small: Row) -> str:
    return f"is {small.size_bytes / 1e6:.1f} MB instead of {best.size_bytes / 1e6:.1f}"


def _name(row: Row) -> str:
    threads = f" with {row.threads} threads" if row.threads > 1 else ""
    return f"{row.file} in {row.runtime}{threads}"


def _ms(row: Row, headline: int) -> float:
    value = row.headline_ms(headline)
    return float("inf") if value is None else value
