"""The quick part of `make matrix`, and what it takes for a defect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from experiments.fuzz import fixture
from experiments.fuzz.case import Outcome
from experiments.matrix import environment, tables
from experiments.matrix.cell import Cell, nothing_wrong, one_line, works, works_or_one_line
from experiments.matrix.layouts import ham10000
from experiments.matrix.pairs import all_pairs
from experiments.matrix.sandbox import Sandbox, perform

REPOSITORY = Path(__file__).resolve().parents[2]
LEAST = {"tables": 55, "folders": 30, "images": 80, "environment": 5, "models": 15, "options": 1}  # cells of each part


def matrix(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program from its command line: it forks, which this process with its threads must not."""
    command = [sys.executable, "-m", "experiments.matrix", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def base(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the test suite's run that commands use."""
    folder: Path = fixture.of_run(tiny_run, tmp_path_factory.mktemp("matrix") / "fixture")
    return folder


@pytest.mark.parametrize("part", LEAST)
def test_no_cell_of_the_quick_part_is_a_defect(base: Path, tmp_path: Path, part: str) -> None:
    done = matrix("--quick", "--part", part, "--fixture", str(base), "--json", str(tmp_path / "cells.json"))
    cells = json.loads((tmp_path / "cells.json").read_text())["cells"]
    assert done.returncode == 0, "\n".join(f"{c['name']}: {c['verdict']}" for c in cells if c["verdict"] != "ok")
    assert len(cells) >= LEAST[part] and not any(cell["traceback"] for cell in cells)
    assert "0 defects, 0 tracebacks" in done.stdout


def test_a_part_that_does_not_exist_yet_is_said() -> None:
    done = matrix(PART="backbones")
    assert done.returncode == 1 and done.stderr.startswith("error: the part 'backbones' does not exist yet")
    assert done.stderr.count("\n") == 1 and not done.stdout


def result(tmp_path: Path, cell: Cell) -> str:
    """Perform a cell whose command is the shell script that stands for it."""
    box = Sandbox(tmp_path / "box", tmp_path)
    return perform("part", cell, box).verdict


@pytest.mark.parametrize(
    ("script", "expected", "verdict"),
    [
        ("echo fine", works(nothing_wrong), "ok"),
        ("echo fine", works(nothing_wrong, "left out"), "DEFECT: does not say ['left out']"),
        ("echo fine", works(lambda outcome, work: "another dataset"), "DEFECT: another dataset"),
        ("echo fine", works(lambda outcome, work: str(work / 1)), "DEFECT: TypeError"),
        ("echo fine", one_line(), "DEFECT: accepted"),
        ("echo 'error: no' >&2; exit 1", works(nothing_wrong), "DEFECT: refused: error: no"),
        ("echo 'error: a.csv: no' >&2; exit 1", one_line("a.csv"), "ok"),
        ("echo 'error: a.csv: no' >&2; exit 1", works_or_one_line(nothing_wrong, "a.csv"), "ok"),
        ("echo 'error: no' >&2; exit 1", one_line("a.csv"), "DEFECT: the error does not name ['a.csv']"),
        ("echo x > half; echo 'error: a.csv' >&2; exit 1", one_line("a.csv"), "DEFECT: refused, but leaves half"),
        ("echo 'Traceback (most recent call last):' >&2; exit 1", one_line(), "DEFECT: traceback"),
        ("exit 3", one_line(), "DEFECT: code"),
        ("kill -SEGV $$", one_line(), "DEFECT: crash"),
        ("sleep 60", one_line(), "DEFECT: hang"),
    ],
)
def test_the_judge_finds_every_kind_of_defect(tmp_path: Path, script: str, expected: object, verdict: str) -> None:
    cell = Cell("x", (("data", "info"),), expected, shell=script, minutes=1 / 60)  # type: ignore[arg-type]
    assert result(tmp_path, cell).startswith(verdict)


def test_an_earlier_command_that_fails_is_a_defect(tmp_path: Path) -> None:
    script = 'echo "error: $2" >&2; test "$2" = second'
    cell = Cell("x", (("first",), ("second",)), works(nothing_wrong), shell=script)
    assert result(tmp_path, cell) == "DEFECT: first failed: refused: error: first"


def test_another_dataset_is_noticed(tmp_path: Path) -> None:
    """The invariant of the tables sees a label, a lesion and an image that differ."""
    layout = ham10000()
    rows = layout.tables["HAM10000_metadata.csv"]
    layout.write(tmp_path / "good/data")
    assert tables.is_same(layout, Outcome(0, b"", b""), tmp_path / "good") is None
    for column, value in ((0, "HAM_9"), (2, "nv")):
        changed = [rows[0], [value if k == column else cell for k, cell in enumerate(rows[1])], *rows[2:]]
        root = tmp_path / str(column) / "data"
        layout.write(root, {"HAM10000_metadata.csv": tables.Dialect().write(changed)})
        assert "images with another" in (tables.is_same(layout, Outcome(0, b"", b""), root.parent) or "")


@pytest.mark.parametrize("seed", range(3))
def test_every_pair_that_is_allowed_shares_a_row(seed: int) -> None:
    factors = {"a": (1, 2, 3), "b": (1, 2, 3, 4), "c": (False, True), "d": (1, 2, 3)}
    rows = all_pairs(factors, Random(seed), lambda row: not (row["c"] and row["d"] == 3))
    assert len(rows) <= 18 and not any(row["c"] and row["d"] == 3 for row in rows)
    for one, other in combinations(factors, 2):
        pairs = {(row[one], row[other]) for row in rows}
        assert len(pairs) == len(factors[one]) * len(factors[other]) - ((one, other) == ("c", "d"))


def test_seeds_draw_other_mutations_and_the_same_seed_the_same() -> None:
    drawn = [[cell.name for cell in tables.of_layout(ham10000(), Random(seed))] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_machines_have_different_names() -> None:
    names = [machine.name for machine in environment.MACHINES]
    assert len(set(names)) == len(names) and set(environment.QUICK) <= set(names)
