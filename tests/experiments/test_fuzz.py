"""Mutated inputs of the cheap kinds, and the oracles that judge them; `make fuzz` tries every kind, and many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.fuzz import campaign, fixture
from experiments.fuzz.box import Box
from experiments.fuzz.case import Base, Case, Outcome
from experiments.fuzz.oracles import findings

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
def base(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files to mutate, around the suite's own run."""
    folder: Path = fixture.of_run(tiny_run, tmp_path_factory.mktemp("fuzz") / "fixture")
    return folder


def test_no_input_of_a_cheap_kind_makes_anything_worse_than_an_error(base: Path, tmp_path: Path) -> None:
    told: list[str] = []
    plan = campaign.Plan(COUNT, SEED, KINDS)
    rows = campaign.run(plan, base, Box(tmp_path / "box", base), told.append)
    print(campaign.table(rows))
    assert not told, "\n".join(told)
    assert sum(row.tried for row in rows.values()) > 0.9 * COUNT
    assert sum(row.refused for row in rows.values()) > 0.2 * COUNT


def test_the_oracles_see_what_must_not_be(tmp_path: Path) -> None:
    case = Case("x")
    bad = {
        "traceback": Outcome(1, b"", b"Traceback (most recent call last):\n  ...\nValueError: x"),
        "crash": Outcome(None, b"", b"ended by SIGSEGV", "crash"),
        "hang": Outcome(None, b"", b"", "hang"),
        "memory": Outcome(1, b"", b"", peak_mib=1600),
        "control": Outcome(0, b"name: \x1b[31mred", b""),
        "code": Outcome(3, b"", b""),
    }
    for kind, wrong in bad.items():
        assert [finding.kind for finding in findings(case, wrong, None, (), tmp_path)] == [kind]
    assert not findings(case, Outcome(1, b"", b"error: no such file"), None, (), tmp_path)
    assert not findings(case, Outcome(0, b"", b"", peak_mib=1600, torch=True), None, (), tmp_path)
    plain = Outcome(0, b"", b"", opened=frozenset({str(tmp_path / "listed")}))
    guarded = Case("x", guarded=("listed",))
    assert [finding.kind for finding in findings(guarded, plain, plain, ("victim.txt",), tmp_path)] == [
        "outside",
        "altered",
    ]


def test_the_box_sees_every_change_outside_and_undoes_it(tmp_path: Path) -> None:
    (tmp_path / "fixture").mkdir()
    (tmp_path / "fixture" / "kept.txt").write_text("kept")
    box, case = Box(tmp_path / "box", tmp_path / "fixture"), Case("x", files={"a/input": b"x"})
    box.put(case.files)
    assert box.outside(case) == []
    (box.work / "kept.txt").unlink()
    (box.root / "victim.txt").write_text("changed")
    (box.root / "home" / "new").mkdir()
    (box.work / "out" / "result").write_text("as asked for")
    assert box.outside(case) == ["home/new", "victim.txt", "work/kept.txt"]
    box.put_in_order()
    assert box.outside(Case("x", writes=())) == []
    assert (box.work / "kept.txt").read_text() == "kept"
    assert not (box.work / "a").exists()


def test_the_same_seed_makes_the_same_input_whatever_else_is_tried(base: Path) -> None:
    kept = Base(base)
    for kind in KINDS:
        first, second = (campaign.make(SEED, kind, 3, kept) for _ in range(2))
        assert (first.argv, dict(first.files)) == (second.argv, dict(second.files))
        assert dict(campaign.make(SEED + 1, kind, 3, kept).files) != dict(first.files)
