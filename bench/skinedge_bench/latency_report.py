"""What `bench` reports: one row a file and runtime, with the raw samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from skinedge_bench.device import Device, saturation
from skinedge_bench.protocol import Protocol

P99_SAMPLES = 1000
NOISE = 0.15  # of the median: spread of the blocks' medians between their quartiles
DRIFT = 0.10  # how much slower the last third may be than the first
SMALL_GAIN = 1.9  # what int8 should gain over fp32 on a CPU with an int8 dot product


@dataclass(frozen=True)
class Row:
    """One file in one runtime. Times in milliseconds, None where not measured.

    p99_ms: only from 1000 samples on; n: how many samples; accuracy_note: why balanced_accuracy is None, or where
    it is from; golden: verdict of the golden vectors ('pass', 'fail', 'underpowered', None without them).
    """

    file: str
    runtime: str
    precision: str
    threads: int
    size_bytes: int
    sha256: str
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    load_ms: float | None = None
    first_inference_ms: float | None = None
    peak_rss_mib: float | None = None
    n: int = 0
    balanced_accuracy: float | None = None
    accuracy_note: str = ""
    golden: str | None = None
    partitions: int | None = None
    trustworthy: bool = False
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class LatencyReport:
    """rows: in the order of the files; samples_ms: 'runtime file' -> blocks of raw samples, in the order measured.

    foreign_cpu: share of the cores' time that other processes used during the timings, None where unknown;
    model_id, model_sha256: of the run and its merged weights, or of the one file that was measured.
    """

    device: Device
    protocol: Protocol
    seed: int
    rows: tuple[Row, ...]
    samples_ms: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    foreign_cpu: float | None = None
    model_id: str | None = None
    model_sha256: str | None = None

    def golden_failures(self) -> list[str]:
        """'file (runtime)' of every row that fails the golden vectors."""
        return [f"{row.file} ({row.runtime})" for row in self.rows if row.golden == "fail"]

    def document(self) -> dict[str, object]:
        """The JSON form without the raw samples."""
        rows = [
            {**asdict(row), "ratio_to_fp32": self.ratio_to_fp32(row), "ratio_to_eager": self.ratio_to_eager(row)}
            for row in self.rows
        ]
        return {
            "device": asdict(self.device),
            "protocol": asdict(self.protocol),
            "seed": self.seed,
            "foreign_cpu": self.foreign_cpu,
            "rows": rows,
            "remarks": list(self.remarks()),
        }

    def ratio_to_fp32(self, row: Row) -> float | None:
        """How many times as fast as the same runtime's fp32 file (of p50); None where there is none."""
        return _ratio(row, [r for r in self.rows if r.runtime == row.runtime and r.precision == "fp32"])

    def ratio_to_eager(self, row: Row) -> float | None:
        """How many times as fast as PyTorch eager."""
        return _ratio(row, [r for r in self.rows if r.runtime == "torch"])

    def remarks(self) -> tuple[str, ...]:
        """Sentences that explain the figures."""
        warning = saturation({row.file: row.precision for row in self.rows if row.n}, self.device.features)
        return (*self._small_gains(), *((warning,) if warning else ()))

    def _small_gains(self) -> tuple[str, ...]:
        slow = [
            row.runtime
            for row in self.rows
            if row.precision == "int8" and (gain := self.ratio_to_fp32(row)) is not None and gain < SMALL_GAIN
        ]
        if slow and self.device.int8_dot_product is False:
            names = " and ".join(sorted(set(slow)))
            return (f"int8 gains little in {names}: this CPU has no int8 dot product (x86 VNNI or AMX, Arm dotprod).",)
        return ()


def summarize(blocks: Sequence[Sequence[float]]) -> dict[str, float | int | None]:
    """p50_ms, p90_ms, p99_ms (None below 1000 samples) and n of blocks of samples in milliseconds."""
    samples = np.concatenate([np.asarray(block, dtype=np.float64) for block in blocks])
    p50, p90, p99 = (float(value) for value in np.quantile(samples, [0.5, 0.9, 0.99]))
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99 if samples.size >= P99_SAMPLES else None, "n": samples.size}


def noise_reasons(blocks: Sequence[Sequence[float]]) -> tuple[str, ...]:
    """What the samples themselves say against them: noise between blocks, or a slow-down over the run."""
    medians = np.array([np.median(block) for block in blocks])
    low, middle, high = np.quantile(medians, [0.25, 0.5, 0.75])
    reasons = []
    if (high - low) / middle > NOISE:
        reasons.append(f"noisy: half of the blocks' medians spread over {(high - low) / middle:.0%} of the median")
    third = len(medians) // 3
    if third:
        drift = float(np.median(medians[-third:]) / np.median(medians[:third])) - 1
        if drift > DRIFT:
            reasons.append(f"slowed down by {drift:.0%} during the benchmark")
    return tuple(reasons)


def _ratio(row: Row, base: Sequence[Row]) -> float | None:
    if row.p50_ms is None or not base or base[0].p50_ms is None:
        return None
    return base[0].p50_ms / row.p50_ms
