"""The latency report: one row per file, runtime and number of threads, and the raw samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from skinedge.core import json_io
from skinedge_bench.device import Device, saturation
from skinedge_bench.latency.block_stats import P99_SAMPLES, Blocks
from skinedge_bench.latency.conditions import Conditions
from skinedge_bench.latency.end_to_end import PhotoSource
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.recommendation import Recommendation, recommend
from skinedge_bench.latency.roofline.peaks import Peaks
from skinedge_bench.latency.roofline.roofline import METHOD
from skinedge_bench.latency.row import Row

SMALL_GAIN = 1.9  # expected speed-up of int8 over fp32 on a CPU with an int8 dot product


@dataclass(frozen=True)
class LatencyReport:
    """Result of a benchmark. rows: in the order of the files; samples_ms: `Row.key` -> blocks of raw samples, in order.

    before, after: conditions before the first and after the last sample, None if nothing was timed; foreign_cpu: share
    of the cores' time used by other processes during the timings, None if unknown; measured_at: UTC, ISO 8601;
    model_id, model_sha256: of the run and its merged weights, or of the single file; host: the remote machine, None for
    this one; test_images: digest of the images and labels behind the accuracies, None without a run; peaks: the rates
    behind the roofline bounds; photos: the images timed end to end.
    """

    device: Device
    protocol: Protocol
    seed: int
    rows: tuple[Row, ...]
    samples_ms: Mapping[str, Blocks] = field(default_factory=dict)
    before: Conditions | None = None
    after: Conditions | None = None
    foreign_cpu: float | None = None
    measured_at: str | None = None
    model_id: str | None = None
    model_sha256: str | None = None
    host: str | None = None
    test_images: str | None = None
    peaks: Peaks | None = None
    photos: PhotoSource | None = None

    def golden_failures(self) -> list[str]:
        """Return 'file (runtime)' of every row that fails the golden vectors."""
        return [f"{row.file} ({row.runtime})" for row in self.rows if row.golden == "fail"]

    def doubts(self) -> dict[str, list[Row]]:
        """Return reason to distrust timings -> affected rows."""
        rows: dict[str, list[Row]] = {}
        for row in self.rows:
            for reason in row.reasons:
                rows.setdefault(reason, []).append(row)
        return rows

    def document(self) -> dict[str, object]:
        """Return the JSON form without the raw samples."""
        return {
            "measured_at": self.measured_at,
            "host": self.host,
            "device": asdict(self.device),
            "conditions": {
                "before": asdict(self.before) if self.before else None,
                "after": asdict(self.after) if self.after else None,
            },
            "foreign_cpu": self.foreign_cpu,
            "protocol": asdict(self.protocol),
            "seed": self.seed,
            "test_images": self.test_images,
            "peaks": asdict(self.peaks) if self.peaks else None,
            "floor_method": METHOD if self.peaks else None,
            "photos": asdict(self.photos) if self.photos else None,
            "rows": [asdict(row) for row in self.rows],
            "recommendation": asdict(self.recommendation()),
            "remarks": list(self.remarks()),
        }

    def to_text(self) -> str:
        """Return the JSON text of a report file: the document with the raw samples, one line per block."""
        body = {**self.document(), "samples_ms": {key: len(blocks) for key, blocks in self.samples_ms.items()}}
        text = json_io.to_text(json_io.document("bench", body, model_id=self.model_id, model_sha256=self.model_sha256))
        for key, blocks in self.samples_ms.items():
            lines = ",\n".join(f"      {json.dumps(list(block))}" for block in blocks)
            text = text.replace(f"    {json.dumps(key)}: {len(blocks)}", f"    {json.dumps(key)}: [\n{lines}\n    ]", 1)
        return text

    def recommendation(self) -> Recommendation:
        """Return the recommended file and runtime for this device."""
        return recommend(self.rows, self.protocol.headline, self.device.int8_dot_product)

    def remarks(self) -> tuple[str, ...]:
        """Return sentences that explain the figures."""
        warning = saturation({row.file: row.precision for row in self.rows if row.n}, self.device.features)
        return (*self._few_samples(), *self._delegate(), *self._small_gains(), *((warning,) if warning else ()))

    def _few_samples(self) -> tuple[str, ...]:
        least = min((row.n for row in self.rows if row.n), default=P99_SAMPLES)
        if least >= P99_SAMPLES:
            return ()
        return (f"Preliminary: {least} samples per file. Use --protocol standard for figures to report.",)

    def _delegate(self) -> tuple[str, ...]:
        """Describe how XNNPACK, LiteRT's delegate, partitioned the files."""
        rows = {row.file: row for row in self.rows if row.n and row.partitions is not None}
        incomplete = [_split_by_delegate(row) for row in rows.values() if row.partitions != 1 or row.outside]
        if incomplete:
            return (f"XNNPACK runs {'; '.join(incomplete)}: other operations run on slower kernels",)
        known = all(row.outside is not None for row in rows.values())
        complete = ", with every operation in it" if known else ""
        return (f"XNNPACK runs each file in one partition{complete}",) if rows else ()

    def _small_gains(self) -> tuple[str, ...]:
        runtimes = [
            row.runtime
            for row in self.rows
            if row.precision == "int8" and row.ratio_to_fp32 is not None and row.ratio_to_fp32 < SMALL_GAIN
        ]
        if runtimes and self.device.int8_dot_product is False:
            names = " and ".join(sorted(set(runtimes)))
            return (f"int8 gains little in {names}: this CPU has no int8 dot product (x86 VNNI or AMX, Arm dotprod).",)
        return ()


def _split_by_delegate(row: Row) -> str:
    """Return, for example, 'FILE in 2 partitions, without SOFTMAX'."""
    partitions = "one partition" if row.partitions == 1 else f"{row.partitions} partitions"
    return f"{row.file} in {partitions}" + (f", without {', '.join(row.outside)}" if row.outside else "")
