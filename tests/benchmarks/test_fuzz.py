"""Mutated inputs of the cheap kinds, and the oracles that judge them; `make fuzz` tries every kind, and many more."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
KINDS = (
    "image",
    "manifest",
    "manifest (names)",
    "run file",
    "card",
    "TOML (labels)",
    "table",
    "npz",
    "result lines",
)
COUNT, SEED = 300, 14


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    """The package `fuzz`, with its modules as attributes."""
    sys.path.insert(0, str(BENCHMARKS))
    names = ("campaign", "fixture", "box", "case", "oracles", "runner", "documents")
    modules = [importlib.import_module(f"fuzz.{name}") for name in names]
    yield sys.modules["fuzz"]
    assert modules
    sys.path.remove(str(BENCHMARKS))
    for name in [name for name in sys.modules if name == "fuzz" or name.startswith("fuzz.")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def base(fuzz: ModuleType, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files to mutate, around the suite's own run."""
    folder: Path = fuzz.fixture.of_run(tiny_run, tmp_path_factory.mktemp("fuzz") / "fixture")
    return folder


def test_no_input_of_a_cheap_kind_makes_anything_worse_than_an_error(
    fuzz: ModuleType, base: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    plan = fuzz.campaign.Plan(COUNT, SEED, KINDS)
    rows = fuzz.campaign.run(plan, base, fuzz.box.Box(tmp_path / "box", base), told.append)
    print(fuzz.campaign.table(rows))
    assert not told, "\n".join(told)
    assert sum(row.tried for row in rows.values()) > 0.9 * COUNT
    assert sum(row.refused for row in rows.values()) > 0.2 * COUNT


def test_the_oracles_see_what_must_not_be(fuzz: ModuleType, tmp_path: Path) -> None:
    case, outcome, findings = fuzz.case.Case("x"), fuzz.case.Outcome, fuzz.oracles.findings
    bad = {
        "traceback": outcome(1, b"", b"Traceback (most recent call last):\n  ...\nValueError: x"),
        "crash": outcome(None, b"", b"ended by SIGSEGV", "crash"),
        "hang": outcome(None, b"", b"", "hang"),
        "memory": outcome(1, b"", b"", peak_mib=1600),
        "control": outcome(0, b"name: \x1b[31mred", b""),
        "code": outcome(3, b"", b""),
    }
    for kind, wrong in bad.items():
        assert [finding.kind for finding in findings(case, wrong, None, (), tmp_path)] == [kind]
    assert not findings(case, outcome(1, b"", b"error: no such file"), None, (), tmp_path)
    assert not findings(case, outcome(0, b"", b"", peak_mib=1600, torch=True), None, (), tmp_path)
    plain = outcome(0, b"", b"", opened=frozenset({str(tmp_path / "listed")}))
    guarded = fuzz.case.Case("x", guarded=("listed",))
    assert [finding.kind for finding in findings(guarded, plain, plain, ("victim.txt",), tmp_path)] == [
        "outside",
        "altered",
    ]


def test_the_box_sees_every_change_outside_and_undoes_it(fuzz: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "fixture").mkdir()
    (tmp_path / "fixture" / "kept.txt").write_text("kept")
    box, case = fuzz.box.Box(tmp_path / "box", tmp_path / "fixture"), fuzz.case.Case("x", files={"a/input": b"x"})
    box.put(case.files)
    assert box.outside(case) == []
    (box.work / "kept.txt").unlink()
    (box.root / "victim.txt").write_text("changed")
    (box.root / "home" / "new").mkdir()
    (box.work / "out" / "result").write_text("as asked for")
    assert box.outside(case) == ["home/new", "victim.txt", "work/kept.txt"]
    box.put_in_order()
    assert box.outside(fuzz.case.Case("x", writes=())) == []
    assert (box.work / "kept.txt").read_text() == "kept"
    assert not (box.work / "a").exists()


def test_the_same_seed_makes_the_same_input_whatever_else_is_tried(fuzz: ModuleType, base: Path) -> None:
    kept = fuzz.case.Base(base)
    for kind in KINDS:
        first, second = (fuzz.campaign.make(SEED, kind, 3, kept) for _ in range(2))
        assert (first.argv, dict(first.files)) == (second.argv, dict(second.files))
        assert dict(fuzz.campaign.make(SEED + 1, kind, 3, kept).files) != dict(first.files)
