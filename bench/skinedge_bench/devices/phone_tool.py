"""Timing on a phone by TFLite's `benchmark_model`: each run of it is one block of one file.

It prints statistics of each block, not samples. Newer builds print the block's median: then p50_ms is the median of
these medians, with its interval. Older builds print only averages: then p50_ms is null, and a reason has the average.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.system.progress import bar
from skinedge_bench.devices.phone import Job, Timed
from skinedge_bench.latency.block_stats import median_interval
from skinedge_bench.latency.row import Row

NAME = "benchmark_model"
STATISTICS = re.compile(r"\bcount=(\d+).*?\bavg=([\d.e+]+)")
MEDIAN = re.compile(r"\bmedian=([\d.e+]+)")
TIMINGS = re.compile(r"Inference timings in us: Init: ([\d.e+]+), First inference: ([\d.e+]+)")


@dataclass(frozen=True)
class Block:
    """Output of one run of the tool, in milliseconds. median_ms: None if this build does not print it."""

    n: int
    mean_ms: float
    median_ms: float | None
    load_ms: float
    first_inference_ms: float


@dataclass(frozen=True)
class BenchmarkTool:
    """Timing method: benchmark_model. tool: the local Android binary, pushed with the files."""

    tool: Path

    def time(self, job: Job, templates: Sequence[Row]) -> Timed:
        """Time the files in interleaved blocks. Raises: ConfigError if the tool does not exist; SkinedgeError."""
        if not self.tool.is_file():
            raise ConfigError("no such file", where=f"--tool {self.tool}")
        job.phone.push(self.tool, f"{job.folder}/{NAME}")
        job.phone.shell("chmod", "755", f"{job.folder}/{NAME}")
        rng = np.random.default_rng(job.seed)
        blocks: dict[str, list[Block]] = {row.key: [] for row in templates}
        with bar("timing on the phone", job.protocol.blocks, "rounds") as advance:
            while len(blocks[templates[-1].key]) < job.protocol.blocks or _seconds(blocks) < job.protocol.min_seconds:
                for index in rng.permutation(len(templates)):
                    blocks[templates[index].key].append(self._block(job, templates[index]))
                advance(1)
        rows = tuple(summarize(row, blocks[row.key]) for row in templates)
        return Timed(rows, {}, {NAME: "from --tool"})

    def _block(self, job: Job, row: Row) -> Block:
        options = {
            "graph": f"{job.folder}/{row.file}",
            "num_threads": row.threads,
            "warmup_runs": job.protocol.warmup,
            "warmup_min_secs": 0,
            "num_runs": job.protocol.block,
            "min_secs": 0,
            "use_xnnpack": "true",
        }
        done = job.phone.run_on_phone(f"{job.folder}/{NAME}", *(f"--{name}={value}" for name, value in options.items()))
        output = done.stdout + done.stderr
        if done.returncode:
            raise job.phone.failure(NAME, output)
        return read_block(output, job.phone.where)


def read_block(output: str, where: str) -> Block:
    """Parse the tool's output: the last line with statistics is of the inferences, earlier ones are of the warm-up.

    Raises: SkinedgeError without such a line.
    """
    statistics = [(match, line) for line in output.splitlines() if (match := STATISTICS.search(line))]
    timings = TIMINGS.search(output)
    if not statistics or not timings:
        last = (output.strip().splitlines() or ["nothing"])[-1]
        raise SkinedgeError(f"'{NAME}' printed no known timings (last line: {last[:200]})", where=where)
    counts, line = statistics[-1]
    median = MEDIAN.search(line)
    return Block(
        n=int(counts.group(1)),
        mean_ms=float(counts.group(2)) / 1e3,
        median_ms=float(median.group(1)) / 1e3 if median else None,
        load_ms=float(timings.group(1)) / 1e3,
        first_inference_ms=float(timings.group(2)) / 1e3,
    )


def summarize(row: Row, blocks: Sequence[Block]) -> Row:
    """Return the row with the statistics of its blocks."""
    medians = np.array([block.median_ms for block in blocks if block.median_ms is not None])
    mean = float(np.average([block.mean_ms for block in blocks], weights=[block.n for block in blocks]))
    complete = len(medians) == len(blocks)
    reasons = () if complete else (f"this build of {NAME} reports only averages: {mean:.2f} ms",)
    return replace(
        row,
        runtime=NAME,
        p50_ms=float(np.median(medians)) if complete else None,
        p50_interval_ms=median_interval(medians) if complete else None,
        load_ms=float(np.median([block.load_ms for block in blocks])),
        first_inference_ms=float(np.median([block.first_inference_ms for block in blocks])),
        block_medians_ms=tuple(medians.tolist()) if complete else (),
        n=sum(block.n for block in blocks),
        reasons=reasons,
    )


def _seconds(blocks: Mapping[str, Sequence[Block]]) -> float:
    """Return the smallest measured time of a file, in seconds."""
    return min(sum(block.n * block.mean_ms for block in file) for file in blocks.values()) / 1e3
