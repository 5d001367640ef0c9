"""A row of the latency report: one file in one runtime with one number of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from skinedge.stats.bootstrap import Interval
from skinedge.stats.verdicts import Verdict
from skinedge_bench.latency.block_stats import Blocks, ratio
from skinedge_bench.latency.end_to_end import EndToEnd
from skinedge_bench.latency.roofline.roofline import RooflineBound
from skinedge_bench.latency.targets import sample_key

EAGER = "torch"
# Verdict of a run's parity report on a file: the worst of its gates. *_elsewhere: on another instruction set; *_strict:
# `verify --strict` refused it; reference: the merged model itself.
ParityVerdict = Literal[
    "reference", "pass", "inconclusive", "fail", "pass_elsewhere", "inconclusive_elsewhere", "inconclusive_strict"
]


@dataclass(frozen=True)
class Row:
    """One file in one runtime with one number of threads. Times in milliseconds, None if not measured.

    p50_interval_ms: 95 %, over the blocks' medians; p99_ms: from 1000 samples on; n: number of samples;
    ratio_to_fp32, ratio_to_eager: speed-up over the run's plain fp32 file in the same runtime, and over PyTorch eager,
    with equal threads, at the protocol's percentile; their intervals: 95 %, over rounds; accuracy_note: source of
    balanced_accuracy, or the reason for None; golden: verdict of the golden vectors here, None without them; parity:
    None without an entry for this sha256; partitions, outside: see `plugins.Session`; in_run: whether the file is the
    run's; block_medians_ms: in the order measured; floor: the roofline bound, None if the operations cannot be counted;
    end_to_end: None if not timed.
    """

    file: str
    runtime: str
    precision: str
    threads: int
    size_bytes: int
    sha256: str
    p50_ms: float | None = None
    p50_interval_ms: Interval | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    load_ms: float | None = None
    first_inference_ms: float | None = None
    peak_rss_mib: float | None = None
    n: int = 0
    ratio_to_fp32: float | None = None
    ratio_to_fp32_interval: Interval | None = None
    ratio_to_eager: float | None = None
    ratio_to_eager_interval: Interval | None = None
    balanced_accuracy: float | None = None
    accuracy_note: str = ""
    golden: Verdict | None = None
    parity: ParityVerdict | None = None
    partitions: int | None = None
    outside: tuple[str, ...] | None = None
    in_run: bool = True
    block_medians_ms: tuple[float, ...] = ()
    floor: RooflineBound | None = None
    end_to_end: EndToEnd | None = None
    trustworthy: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return the key of its raw samples."""
        return sample_key(self.runtime, self.file, self.threads)

    def headline_ms(self, percentile: int) -> float | None:
        """Return p50_ms or p90_ms, for a protocol's `headline`."""
        return {50: self.p50_ms, 90: self.p90_ms}[percentile]


def with_ratios(rows: Sequence[Row], samples: Mapping[str, Blocks], percentile: int) -> tuple[Row, ...]:
    """Return the rows with their speed-ups over the fp32 file of their runtime and over PyTorch eager."""
    return tuple(_with_ratios(row, rows, samples, percentile) for row in rows)


def _with_ratios(row: Row, rows: Sequence[Row], samples: Mapping[str, Blocks], percentile: int) -> Row:
    if row.key not in samples:
        return row
    same_threads = [r for r in rows if r.threads == row.threads and r.key in samples]
    plain = [r for r in same_threads if r.runtime == row.runtime and r.precision == "fp32"]
    # of several fp32 files: the run's own, without extra outputs or another contract, which lengthen the name
    base = min(plain, key=lambda r: (not r.in_run, len(r.file)), default=None)
    eager = next((r for r in same_threads if r.runtime == EAGER), None)
    to_fp32 = ratio(samples[base.key], samples[row.key], percentile) if base else None
    to_eager = ratio(samples[eager.key], samples[row.key], percentile) if eager else None
    return replace(
        row,
        ratio_to_fp32=to_fp32.value if to_fp32 else None,
        ratio_to_fp32_interval=to_fp32.interval if to_fp32 else None,
        ratio_to_eager=to_eager.value if to_eager else None,
        ratio_to_eager_interval=to_eager.interval if to_eager else None,
    )
