"""Try the cells of the matrix and count the defects: `make matrix`, with MATRIX_SEED=n and PART=a,b."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random

from experiments.forked import forked
from experiments.fuzz import fixture
from experiments.matrix.cell import Cell, Plan, Result
from experiments.matrix.parts import NOT_YET, PARTS
from experiments.matrix.sandbox import Sandbox, import_ahead, perform
from skinedge.cli.common import table

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "fuzz"
COLUMNS = ("cell", "expected", "exit", "traceback", "s", "outcome")


def main(arguments: list[str] | None = None) -> int:
    """Run the cells and print a table for each part. Returns 1 when there is a defect."""
    options = parse(arguments)
    started = time.monotonic()
    base = options.fixture or fixture.ready(CACHE / "fixture")
    with tempfile.TemporaryDirectory(prefix="matrix-") as name:
        results = [result for part in options.part for result in run_part(part, options, base.resolve(), Path(name))]
    print(f"seed {options.seed}: {summary(results)}; {(time.monotonic() - started) / 60:.1f} min")
    if options.json:
        document = {"seed": options.seed, "cells": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return int(any(result.defect for result in results))


def summary(results: Sequence[Result]) -> str:
    """Return the counts in one line."""
    defects, tracebacks = (sum(getattr(result, name) for result in results) for name in ("defect", "traceback"))
    skipped = sum(result.verdict.startswith("not run") for result in results)
    line = f"{len(results)} cells, {defects} defects, {tracebacks} tracebacks"
    return f"{line}, {skipped} not run" if skipped else line


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.matrix", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("MATRIX_SEED") or 0),
                        help="draws other mutations and pairs [default: $MATRIX_SEED, else 0]")  # fmt: skip
    parser.add_argument(
        "--part", default=os.environ.get("PART") or ",".join(PARTS), help="some of: " + ", ".join(PARTS)
    )
    parser.add_argument("--quick", action="store_true", help="only the part that .ci/run tries, with seed 0")
    parser.add_argument("--only", metavar="REGEX", default="", help="only the cells whose name matches this")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time [default: 2]")
    parser.add_argument("--fixture", type=Path, metavar="DIR", help="instead of .cache/fuzz/fixture")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the folders of defects in this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result as JSON too")
    options = parser.parse_args(arguments)
    options.part = [name.strip() for name in options.part.split(",")]
    options.seed = 0 if options.quick else options.seed
    for name in options.part:
        if name in NOT_YET:
            sys.exit(f"error: the part '{name}' does not exist yet; there are: {', '.join(PARTS)}")
        if name not in PARTS:
            sys.exit(f"error: unknown part '{name}'; there are: {', '.join(PARTS)}")
    return options


def run_part(name: str, options: argparse.Namespace, base: Path, area: Path) -> list[Result]:
    """Run the cells of one part and print its table."""
    part = PARTS[name]
    plan = Plan(base, Random(f"{options.seed}/{name}"), options.quick)
    cells = [cell for cell in part.cells(plan) if re.search(options.only, cell.name)]
    import_ahead(torch=part.torch)
    results: dict[int, Result] = {}
    for number, result in run_all(name, cells, options, area):
        results[number] = result
        if result.defect:
            print(f"{name}: {result.name}: {result.verdict}"[:600], file=sys.stderr, flush=True)
    ordered = [results[number] for number in range(len(cells))]
    rows = [
        (r.name, r.expected, r.code, "yes" if r.traceback else "no", f"{r.seconds:.1f}", r.verdict) for r in ordered
    ]
    table(f"{name}: {part.about}", COLUMNS, rows)
    return ordered


def run_all(part: str, cells: Sequence[Cell], options: argparse.Namespace, area: Path) -> Iterator[tuple[int, Result]]:
    """Run each cell in a forked process, `jobs` at a time; yield its number and result as it ends."""
    waiting, running = list(reversed(range(len(cells)))), dict[int, int]()
    while waiting or running:
        while waiting and len(running) < options.jobs:
            number = waiting.pop()
            running[forked(partial(_perform, part, cells[number], area, number))] = number
        process, status = os.wait()
        number = running.pop(process)
        box, file = area / str(number), area / f"{number}.json"
        if status != 0:
            sys.exit(f"{part}: the cell '{cells[number].name}' could not be run")
        result = Result(**json.loads(file.read_text()))
        if result.defect and options.keep:
            kept = options.keep / part / f"{number:03}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(box, kept, symlinks=True)
        shutil.rmtree(box, ignore_errors=True)
        yield number, result


def _perform(part: str, cell: Cell, area: Path, number: int) -> None:
    """Perform a cell, and write the result as JSON."""
    result = perform(part, cell, Sandbox(area / str(number), area))
    (area / f"{number}.json").write_text(json.dumps(asdict(result)))


if __name__ == "__main__":
    sys.exit(main())
