"""Timing on a phone by TFLite's `benchmark_model`, block by block: each run of it is one block of one file.

It tells statistics of each block, no samples. Newer builds tell the block's median: then p50_ms is the median of those,
and its interval is theirs. Older ones tell averages alone: p50_ms is null then, and a reason has the average.
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
    """What one run of the tool told. Milliseconds; median_ms: None where this build does not tell it."""

    n: int
    mean_ms: float
    median_ms: float | None
    load_ms: float
    first_inference_ms: float


@dataclass(frozen=True)
class BenchmarkTool:
    """tool: the Android binary, here; it is pushed with the files."""

    tool: Path

    def time(self, job: Job, templates: Sequence[Row]) -> Timed:
        if not self.tool.is_file():
            raise ConfigError("no such file", where=f"--tool {self.tool}")
        job.phone.push(self.tool, f"{job.folder}/{NAME}")
        job.phone.shell("chmod", "755", f"{job.folder}/{NAME}")
        rng = np.random.default_rng(job.seed)
        blocks: dict[str, list[Block]] = {row.key: [] for row in templates}
        with bar("timing on the phone", job.protocol.blocks, "rounds") as advance:
            while len(blocks[templates[-1].key]) < job.protocol.blocks or _seconds(blocks) < job.protocol.min_seconds:
                for place in rng.permutation(len(templates)):
                    blocks[templates[place].key].append(self._block(job, templates[place]))
                advance(1)
        rows = tuple(summed(row, blocks[row.key]) for row in templates)
        return Timed(rows, {}, {NAME: "as given with --tool"})

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
        done = job.phone.there(f"{job.folder}/{NAME}", *(f"--{name}={value}" for name, value in options.items()))
        said = done.stdout + done.stderr
        if done.returncode:
            raise job.phone.failure(NAME, said)
        return read_block(said, job.phone.where)


def read_block(said: str, where: str) -> Block:
    """What the tool printed; its last line of statistics is of the inferences, those before are of the warm-up.

    Raises: SkinedgeError when it has no such lines.
    """
    statistics = [(match, line) for line in said.splitlines() if (match := STATISTICS.search(line))]
    timings = TIMINGS.search(said)
    if not statistics or not timings:
        last = (said.strip().splitlines() or ["nothing"])[-1]
        raise SkinedgeError(f"'{NAME}' printed no timings that we know (its last line: {last[:200]})", where=where)
    found, line = statistics[-1]
    median = MEDIAN.search(line)
    return Block(
        n=int(found.group(1)),
        mean_ms=float(found.group(2)) / 1e3,
        median_ms=float(median.group(1)) / 1e3 if median else None,
        load_ms=float(timings.group(1)) / 1e3,
        first_inference_ms=float(timings.group(2)) / 1e3,
    )


def summed(row: Row, blocks: Sequence[Block]) -> Row:
    """The row with what its blocks tell together."""
    medians = np.array([block.median_ms for block in blocks if block.median_ms is not None])
    mean = float(np.average([block.mean_ms for block in blocks], weights=[block.n for block in blocks]))
    told = len(medians) == len(blocks)
    why = () if told else (f"this build of {NAME} tells averages alone: {mean:.2f} ms",)
    return replace(
        row,
        runtime=NAME,
        p50_ms=float(np.median(medians)) if told else None,
        p50_interval_ms=median_interval(medians) if told else None,
        load_ms=float(np.median([block.load_ms for block in blocks])),
        first_inference_ms=float(np.median([block.first_inference_ms for block in blocks])),
        block_medians_ms=tuple(medians.tolist()) if told else (),
        n=sum(block.n for block in blocks),
        reasons=why,
    )


def _seconds(blocks: Mapping[str, Sequence[Block]]) -> float:
    """Measured seconds of the file that has fewest."""
    return min(sum(block.n * block.mean_ms for block in file) for file in blocks.values()) / 1e3
