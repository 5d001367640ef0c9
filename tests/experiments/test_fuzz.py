"""Mutated inputs of the cheap kinds, and the oracles that check them; `make fuzz` runs every kind, with many more."""

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
    "plan",
    "npz",
    "result lines",
)
COUNT, SEED = 300, 14


@pytest.fixture(scope="module")
def base(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files to mutate, around the test suite's run."""
    folder: Path = fixture.of_run(tiny_run, tmp_path_factory.mktemp("fuzz") / "fixture")
    return folder


def test_no_input_of_a_cheap_kind_causes_more_than_an_error(base: Path, tmp_path: Path) -> None:
    reported: list[str] = []
    plan = campaign.Plan(COUNT, SEED, KINDS)
    rows = campaign.run(plan, base, Box(tmp_path / "box", base), reported.append)
    print(campaign.table(rows))
    assert not reported, "\n".join(reported)
    assert not campaign.blind(rows)
    assert sum(row.tried for row in rows.values()) > 0.9 * COUNT
    assert sum(row.refused for row in rows.values()) > 0.2 * COUNT


def test_a_kind_whose_inputs_all_end_alike_is_blind() -> None:
    rows = {"a": campaign.Row(), "b": campaign.Row()}
    for number in range(8):
        rows["a"].add(Case("a"), Outcome(1, b"", b"error: no such folder"), (), 0.1)
        rows["b"].add(Case("b"), Outcome(1, b"", b"error: line %d" % number), (), 0.1)
    assert campaign.blind(rows) == ["a"]


def test_the_oracles_detect_every_kind_of_finding(tmp_path: Path) -> None:
    case = Case("x")
    bad = {
        "traceback": Outcome(1, b"", b"Traceback (most recent call last):\n  ...\nValueError: x"),
        "crash": Outcome(None, b"", b"ended by SIGSEGV", "crash"),
        "hang": Outcome(None, b"", b"", "hang"),
        "memory": Outcome(1, b"", b"", peak_mib=1600),
        "control": Outcome(0, b"name: \x1b[31mred", b""),
        "code": Outcome(3, b"", b""),
    }
    for kind, outcome in bad.items():
        assert [finding.kind for finding in findings(case, outcome, None, (), tmp_path)] == [kind]
    assert not findings(case, Outcome(1, b"", b"error: no such file"), None, (), tmp_path)
    assert not findings(case, Outcome(0, b"", b"", peak_mib=1600, torch=True), None, (), tmp_path)
    plain = Outcome(0, b"", b"", opened=frozenset({str(tmp_path / "listed")}))
    guarded = Case("x", guarded=("listed",))
    assert [finding.kind for finding in findings(guarded, plain, plain, ("victim.txt",), tmp_path)] == [
        "outside",
        "altered",
    ]


def test_the_box_detects_and_undoes_every_change_outside(tmp_path: Path) -> None:
    (tmp_path / "fixture").mkdir()
    (tmp_path / "fixture" / "kept.txt").write_text("kept")
    box, case = Box(tmp_path / "box", tmp_path / "fixture"), Case("x", files={"a/input": b"x"})
    box.put(case.files)
    assert box.outside(case) == []
    (box.work / "kept.txt").unlink()
    (box.root / "victim.txt").write_text("changed")
    (box.root / "home" / "new").mkdir()
    (box.work / "out" / "result").write_text("requested output")
    assert box.outside(case) == ["home/new", "victim.txt", "work/kept.txt"]
    box.restore()
    assert box.outside(Case("x", writes=())) == []
    assert (box.work / "kept.txt").read_text() == "kept"
    assert not (box.work / "a").exists()


def test_an_input_depends_on_seed_kind_and_index_only(base: Path) -> None:
    fixture_files = Base(base)
    for kind in KINDS:
        first, second = (campaign.make(SEED, kind, 3, fixture_files) for _ in range(2))
        assert (first.argv, dict(first.files)) == (second.argv, dict(second.files))
        assert dict(campaign.make(SEED + 1, kind, 3, fixture_files).files) != dict(first.files)
