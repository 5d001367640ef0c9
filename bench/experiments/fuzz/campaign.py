"""The kinds of input, the number of inputs of each, and the counts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from experiments.fuzz import arrays, commands, documents, images, models, tables, web_requests
from experiments.fuzz.box import Box
from experiments.fuzz.case import Base, Case, Outcome
from experiments.fuzz.oracles import KINDS, Finding
from experiments.fuzz.runner import Runner

Make = Callable[[Random, Base], Case]
# name -> (relative number of inputs, generator). Kinds that need torch, a process or a conversion are slow and rarer.
INPUTS: Mapping[str, tuple[float, Make]] = {
    "image": (420, images.case),
    "image (explain)": (1.5, images.explained),
    "manifest": (110, documents.manifest),
    "manifest (names)": (50, documents.paths),
    "run file": (70, documents.run_file),
    "card": (30, documents.card),
    "report": (40, documents.report),
    "TOML (config)": (50, tables.config),
    "TOML (labels)": (60, tables.labels),
    "table": (45, tables.table),
    "plan": (15, tables.plan),
    "npz": (35, arrays.case),
    "result lines": (40, tables.lines),
    "request": (60, web_requests.case),
    "arguments": (40, commands.arguments),
    "environment": (1, commands.environment),
    "tflite": (1.5, models.tflite),
    "onnx": (1.5, models.onnx),
    "model of a run": (6, models.of_run),
    "safetensors": (1.5, models.merged),
    "adapter": (1, models.adapter),
    "checkpoint": (0.5, models.checkpoint),
}
SIZES = {"image": 5}  # inputs of one command, on average


class Target(Protocol):
    """Runs inputs: commands or requests."""

    def run(self, case: Case) -> tuple[Outcome, list[Finding]]: ...

    def close(self) -> None: ...


@dataclass
class Row:
    """The counts of one kind. peak_mib: of commands that do not import torch."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    peak_mib: float = 0.0
    findings: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    endings: set[tuple[int | None, bytes]] = field(default_factory=set)  # exit code and error of each input

    def add(self, case: Case, outcome: Outcome, findings: Sequence[Finding], seconds: float) -> None:
        self.tried += case.inputs
        self.seconds += seconds
        self.endings.add((outcome.code, outcome.stderr[-300:]))
        if outcome.code is not None:
            accepted = _accepted(case, outcome)
            self.accepted += accepted
            self.refused += case.inputs - accepted
        if not outcome.torch:
            self.peak_mib = max(self.peak_mib, outcome.peak_mib)
        for finding in findings:
            self.findings[finding.kind] += 1

    def document(self) -> dict[str, object]:
        """Return the counts for JSON."""
        return {**asdict(self), "endings": len(self.endings)}


@dataclass(frozen=True)
class Plan:
    """A campaign. count: total inputs; kinds: names of INPUTS; only: index to run, None for all; keep: for findings."""

    count: int
    seed: int
    kinds: tuple[str, ...]
    only: int | None = None
    keep: Path | None = None


def run(plan: Plan, fixture: Path, box: Box, say: Callable[[str], None]) -> dict[str, Row]:
    """Run the planned inputs and report each new sort of finding. Returns kind -> counts."""
    base, rows, seen = Base(fixture), {name: Row() for name in plan.kinds}, set[tuple[str, str]]()
    runner = Runner(box)
    server = web_requests.Server(box) if "request" in plan.kinds else None
    try:
        for number, (name, index) in enumerate(order(plan), 1):
            case = make(plan.seed, name, index, base)
            started = time.monotonic()
            target: Target = server if server is not None and name == "request" else runner
            outcome, findings = target.run(case)
            rows[name].add(case, outcome, findings, time.monotonic() - started)
            new = [finding for finding in findings if (name, finding.sort) not in seen]
            seen |= {(name, finding.sort) for finding in findings}
            for finding in new:
                say(f"{name} {index}: {finding.kind}: {finding.detail}  ({' '.join(case.argv)[:90]!r})")
                if plan.keep is not None:
                    keep(plan.keep / f"{len(seen):03}-{name.split()[0]}-{index}", plan.seed, index, case, finding)
            if number % 1000 == 0:
                say(f"{sum(row.tried for row in rows.values())} inputs, {name}")
    finally:
        runner.close()
        if server is not None:
            server.close()
    return rows


def blind(rows: Mapping[str, Row]) -> list[str]:
    """Return the kinds of which all inputs end in the same way: the command stops before it reads what was mutated."""
    return [name for name, row in rows.items() if row.tried >= 8 and len(row.endings) == 1]


def order(plan: Plan) -> Iterator[tuple[str, int]]:
    """Yield (kind, index) of every input, kind by kind: in the proportions of INPUTS, at least one of each."""
    if plan.only is not None:
        yield from ((name, plan.only) for name in plan.kinds)
        return
    total = sum(INPUTS[name][0] for name in plan.kinds)
    for name in plan.kinds:
        yield from (
            (name, index) for index in range(max(1, round(plan.count * INPUTS[name][0] / total / SIZES.get(name, 1))))
        )


def make(seed: int, name: str, index: int, base: Base) -> Case:
    """Return the input of a kind with this index; it depends on nothing but these and the seed."""
    return INPUTS[name][1](Random(f"{seed}/{name}/{index}"), base)


def keep(folder: Path, seed: int, index: int, case: Case, finding: Finding) -> None:
    """Save an input with the command that repeats it."""
    folder.mkdir(parents=True, exist_ok=True)
    repeat = f"make fuzz ARGS=\"--seed {seed} --kinds '{case.kind}' --only {index}\""
    special = {name: repr(content) for name, content in case.files.items() if not isinstance(content, bytes)}
    facts = {"repeat": repeat, "argv": case.argv, "env": dict(case.env), "encoding": case.encoding, "special": special}
    text = json.dumps({**facts, "finding": asdict(finding), "files": [*case.files]}, indent=2)
    (folder / "case.json").write_text(text + "\n", encoding="utf-8")
    if case.request:
        (folder / "request.bin").write_bytes(case.request)
    for number, content in enumerate(case.files.values()):
        if isinstance(content, bytes) and len(content) < 1 << 20:
            (folder / f"file{number}.bin").write_bytes(content)


def _accepted(case: Case, outcome: Outcome) -> int:
    """Return how many inputs of a finished command were accepted; with several, each rejected one has an error line."""
    if case.inputs == 1:
        return int(outcome.code == 0)
    failed = outcome.stdout.count(b'"error": ') + outcome.stdout.count(b": error: ")
    return max(0, case.inputs - failed)


def table(rows: Mapping[str, Row]) -> str:
    """Return the counts and their sums as Markdown."""
    titles = ["kind", "tried", "accepted", "refused", "tracebacks", "native crashes", "hangs > 10 s", "peak MiB",
    "over 1.5 GiB",
              "altered results accepted", "outside the run", "raw control characters", "other exit codes",
              "inputs/s"]  # fmt: skip
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1)]
    total = Row()
    for name, row in rows.items():
        lines.append(_cells(name, row))
        for field_ in ("tried", "accepted", "refused", "seconds"):
            setattr(total, field_, getattr(total, field_) + getattr(row, field_))
        total.peak_mib = max(total.peak_mib, row.peak_mib)
        total.findings = {kind: total.findings[kind] + row.findings[kind] for kind in KINDS}
    lines.append(_cells("all", total))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(name: str, row: Row) -> list[str]:
    counted = row.findings
    counts = (row.tried, row.accepted, row.refused, counted["traceback"], counted["crash"], counted["hang"])
    more = (counted["memory"], counted["altered"], counted["outside"], counted["control"], counted["code"])
    rate = f"{row.tried / row.seconds:.1f}" if row.seconds else "-"
    return [name, *map(str, counts), f"{row.peak_mib:.0f}" if row.peak_mib else "-", *map(str, more), rate]
