"""The precision ladder's choice, with rungs made by hand: which is taken, which is never tried, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinedge.core.errors import ConfigError, GateError
from skinedge.core.outputs import Outputs
from skinedge.stats.gates import Gate
from skinedge_export.candidate_check import CandidateMetrics
from skinedge_export.converter import Artifact
from skinedge_export.int8.activation_ranges import METHODS
from skinedge_export.int8.sensitivity import Layer
from skinedge_export.recipe import PRECISIONS, CalibrationSettings, ExportRecipe
from skinedge_export.search import candidates
from skinedge_export.search.candidates import (
    Candidate,
    SearchSettings,
    given_up,
    load_search_settings,
    report,
    search_candidates,
    timed,
)

STEPS = SearchSettings(("min-max", "percentile", "mse"), (1, 2, 4, 8), ("int8-weight", "fp16"))
LAYERS = [(Layer((f"layer{i}",)), 1.0 / (i + 1)) for i in range(6)]
INT8 = ("int8", "int8-mixed")

GOOD = (Gate("agreement", 0.99, 0.97, "pass"), Gate("balanced_accuracy_fall", 0.001, 0.01, "underpowered"))
DOUBTFUL = (Gate("agreement", 0.99, 0.97, "pass"), Gate("balanced_accuracy_fall", 0.02, 0.01, "underpowered"))
BAD = (Gate("agreement", 0.5, 0.97, "fail"), Gate("balanced_accuracy_fall", 0.3, 0.01, "fail"))


@dataclass
class Clock:
    """A session that writes down when it was run."""

    name: str
    turns: list[str]

    def run(self, pixels: np.ndarray) -> Outputs:
        self.turns.append(self.name)
        return Outputs(np.ones((len(pixels), 1), np.float32))


def figures(distance: float) -> CandidateMetrics:
    return CandidateMetrics(100, 0.99, distance, 0.8, 0.01, 0.7, 0.9, 0.002)


def rung(
    recipe: ExportRecipe, kept: tuple[Layer, ...], gates: tuple[Gate, ...], distance: float, **more: Any
) -> Candidate:
    artifact = Artifact(Path("file"), recipe.precision, (), (), (), {})
    names = tuple(layer.name for layer in kept)
    said = {"partitions": 2, "size": 1000, **more}
    return Candidate(artifact, recipe, names, gates, figures(distance), **said)


@dataclass
class Workshop:
    """Makes rungs as a plan says. plan: 'int8 mse' or 'int8-mixed 2' or 'fp16' -> gates and distance, else BAD."""

    plan: dict[str, tuple[tuple[Gate, ...], float]]
    made: list[str] = field(default_factory=list)
    asked_for_order: int = 0

    def attempt(self, recipe: ExportRecipe, kept: tuple[Layer, ...]) -> Candidate:
        ways = {"int8": f" {recipe.calibration.ranges}", "int8-mixed": f" {len(kept)}"}
        name = recipe.precision + ways.get(recipe.precision, "")
        self.made.append(name)
        gates, distance = self.plan.get(name, (BAD, 9.0))
        return rung(recipe, kept, gates, distance)

    def ranked(self) -> Sequence[tuple[Layer, float]]:
        self.asked_for_order += 1
        return LAYERS

    def climb(self, precisions: Sequence[str], steps: SearchSettings = STEPS) -> list[Candidate]:
        recipe: Callable[[str], ExportRecipe] = lambda precision: ExportRecipe("onnx", precision)  # noqa: E731
        return search_candidates(steps, precisions, self.attempt, recipe, self.ranked)


def test_static_int8_that_convinces_is_all_that_is_made_and_the_nearest_is_taken() -> None:
    work = Workshop({"int8 min-max": (GOOD, 0.3), "int8 percentile": (GOOD, 0.1), "int8 mse": (GOOD, 0.2)})
    found = work.climb(INT8)
    assert [rung.name for rung in found] == ["int8 (min-max)", "int8 (mse)", "int8 (percentile)"]
    assert work.made == ["int8 min-max", "int8 percentile", "int8 mse"]
    assert work.asked_for_order == 0, "sensitivity was measured for nothing"


def test_a_nearer_rung_that_failed_or_is_in_doubt_is_not_taken() -> None:
    work = Workshop({"int8 min-max": (BAD, 0.0), "int8 percentile": (DOUBTFUL, 0.1), "int8 mse": (GOOD, 0.9)})
    assert work.climb(INT8)[-1].name == "int8 (mse)"


def test_mixed_stops_at_the_first_number_of_layers_that_convinces() -> None:
    work = Workshop({"int8-mixed 2": (GOOD, 0.5), "int8-mixed 4": (GOOD, 0.1)})
    found = work.climb((*INT8, "int8-weight", "fp16"))
    assert work.made == ["int8 min-max", "int8 percentile", "int8 mse", "int8-mixed 1", "int8-mixed 2"]
    assert work.asked_for_order == 1
    assert found[-1].kept_float == ("layer0", "layer1"), "the worst layers"
    assert found[-1].recipe.precision == "int8-mixed" and len(found) == 5


def test_in_doubt_it_goes_on_and_a_convincing_mixed_one_wins_though_it_is_farther() -> None:
    work = Workshop({"int8 mse": (DOUBTFUL, 0.1), "int8-mixed 1": (GOOD, 0.4)})
    found = work.climb(INT8)
    assert found[-1].name == "int8-mixed (1 layers in float)"
    assert work.made[-1] == "int8-mixed 1"


def test_where_none_convinces_the_nearest_that_passed_is_taken() -> None:
    work = Workshop({"int8 mse": (DOUBTFUL, 0.2), "int8-mixed 2": (DOUBTFUL, 0.1), "int8-mixed 4": (DOUBTFUL, 0.3)})
    found = work.climb(INT8)
    assert found[-1].name == "int8-mixed (2 layers in float)" and not found[-1].convincing
    assert work.made == ["int8 min-max", "int8 percentile", "int8 mse", "int8-mixed 1", "int8-mixed 2", "int8-mixed 4"]
    assert len(found) == 6, "eight of six layers cannot be kept, and nothing else was left out"


def test_all_layers_in_float_are_not_called_mixed() -> None:
    work = Workshop({})
    with pytest.raises(GateError):
        work.climb(INT8, SearchSettings(("min-max",), (5, 6, 7), ()))
    assert work.made == ["int8 min-max", "int8-mixed 5"]


def test_below_int8_only_where_it_is_among_the_precisions_and_in_their_order() -> None:
    work = Workshop({"int8-weight": (BAD, 0.1), "fp16": (GOOD, 0.0)})
    with pytest.raises(GateError):
        work.climb(INT8)
    found = work.climb((*INT8, *STEPS.fallback))
    assert found[-1].name == "fp16" and work.made[-2:] == ["int8-weight", "fp16"]


def test_a_ladder_without_a_rung_names_each_one_its_gates_and_the_way_out() -> None:
    worse = (Gate("agreement", 0.4, 0.97, "fail"), Gate("finite", 3, 0, "fail"), Gate("melanoma", None, 1, "pass"))
    with pytest.raises(GateError) as caught:
        Workshop({"int8 mse": (worse, 0.1)}).climb(INT8)
    lines = str(caught.value).splitlines()
    assert lines[0] == "no file kept the diagnosis on validation images:"
    both = "agreement 0.5 (limit 0.97); balanced_accuracy_fall 0.3 (limit 0.01)"
    assert lines[1:7] == [
        f"  int8 (min-max): {both}",
        f"  int8 (percentile): {both}",
        "  int8 (mse): agreement 0.4 (limit 0.97); finite 3 (limit 0)",
        *(f"  int8-mixed ({number} layers in float): {both}" for number in (1, 2, 4)),
    ]
    assert "--fallback any" in lines[-1] and "This file was not written" in lines[-1]


def test_one_rung_that_fails_tells_its_first_failed_gate() -> None:
    gates = (GOOD[0], Gate("max_difference", 0.25, 0.001, "fail", "logits"))
    with pytest.raises(GateError, match=r"gate 'max_difference' failed: 0\.25, limit 0\.001 \(logits\)"):
        Workshop({"fp32": (gates, 0.1)}).climb(("fp32",))


def test_a_rung_says_on_screen_how_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    Workshop({"int8 percentile": (DOUBTFUL, 0.2), "int8 mse": (GOOD, 0.1)}).climb(INT8)
    said = capsys.readouterr()
    assert said.out == ""
    assert "int8 (min-max): rejected, agreement 0.5 (limit 0.97)" in said.err
    assert "int8 (percentile): in doubt, balanced_accuracy_fall 0.02 (limit 0.01)" in said.err
    assert "int8 (mse): passed" in said.err


@pytest.mark.parametrize(
    ("gate", "convincing"),
    [
        (Gate("agreement", 0.96, 0.97, "underpowered"), False),
        (Gate("agreement", 0.98, 0.97, "underpowered"), True),
        (Gate("agreement", None, 0.97, "underpowered"), True),  # nothing was measured: nothing speaks against it
        (Gate("balanced_accuracy_fall", 0.011, 0.01, "underpowered"), False),
        (Gate("balanced_accuracy_fall", 0.01, 0.01, "underpowered"), True),
        (Gate("balanced_accuracy_fall", -0.2, 0.01, "pass"), True),
        (Gate("malignant_score_change", 0.02, 0.01, "fail"), False),
    ],
)
def test_an_estimate_beyond_its_limit_does_not_convince(gate: Gate, convincing: bool) -> None:
    made = rung(ExportRecipe("onnx", "int8"), (), (GOOD[0], gate), 0.1)
    assert made.convincing == convincing and made.passed == (gate.verdict != "fail")


def test_a_rung_without_gates_has_not_passed() -> None:
    made = rung(ExportRecipe("onnx", "int8"), (), (), 0.1)
    assert not made.passed and not made.convincing


def test_a_distance_that_is_no_number_is_never_the_nearest() -> None:
    plan = {"int8 min-max": (GOOD, float("nan")), "int8 percentile": (GOOD, 0.4), "int8 mse": (GOOD, float("inf"))}
    assert Workshop(plan).climb(INT8)[-1].name == "int8 (percentile)"


def test_rungs_and_the_exact_file_are_timed_in_turns_and_keep_their_order() -> None:
    turns: list[str] = []
    sessions = [Clock(name, turns) for name in "abcx"]
    recipe = ExportRecipe("onnx", "int8")
    rungs = [rung(recipe, (), GOOD, 0.1, size=size) for size in (1, 2, 3)]
    found, whole = timed(rungs, sessions, np.zeros((1, 4, 4, 3)))
    assert turns == list("abcx") * (len(turns) // 4) and len(turns) > 4 * candidates.ROUNDS
    assert [made.size for made in found] == [1, 2, 3]
    assert all(made.milliseconds is not None and made.milliseconds > 0 for made in found) and whole is not None
    turns.clear()
    found, whole = timed(rungs, sessions[:3], np.zeros((1, 4, 4, 3)))
    assert len(found) == 3 and whole is None and set(turns) == set("abc")


def test_the_report_holds_every_rung_and_what_was_given_up() -> None:
    static, mixed = ExportRecipe("onnx", "int8"), ExportRecipe("onnx", "int8-mixed", CalibrationSettings(ranges="mse"))
    kept = tuple(layer for layer, _ in LAYERS[:2])
    rungs = [
        rung(static, (), BAD, 0.7, milliseconds=4.0, size=1_000_000),
        rung(mixed, kept, GOOD, 0.1, milliseconds=5.5, size=1_250_000),
    ]
    document = json.loads(json.dumps(report(rungs, 100, 9.0)))
    assert document["validation_images"] == 100 and document["chosen"] == "int8-mixed (2 layers in float)"
    assert document["given_up"] == given_up(rungs, 9.0) == "+1.50 ms and +0.25 MB against int8 (min-max)"
    assert document["fp32_milliseconds"] == 9.0
    first, last = document["rungs"]
    assert (first["passed"], first["convincing"], first["ranges"], first["kept_float"]) == (False, False, "min-max", [])
    assert [gate["verdict"] for gate in first["gates"]] == ["fail", "fail"]
    assert (last["passed"], last["ranges"], last["kept_float"]) == (True, "mse", ["layer0", "layer1"])
    assert (last["size_bytes"], last["milliseconds"], last["partitions"]) == (1_250_000, 5.5, 2)
    assert last["validation"]["balanced_accuracy"] == 0.8 and last["validation"]["melanoma_sensitivity"] == 0.7
    assert given_up([rungs[0], rungs[0]], 9.0) == "", "static int8 gives nothing up"
    assert given_up([rungs[0], rungs[0]], None) == "", "and is not compared with what was not measured"
    assert given_up([rungs[0], rungs[0]], 3.5) == "no faster than fp32 on this CPU (4.00 against 3.50 ms)"
    assert given_up(rungs, 5.5).startswith("+1.50 ms and +0.25 MB against int8 (min-max); no faster than fp32")


def test_the_shipped_ladder_is_read() -> None:
    found = load_search_settings()
    assert found.ranges == METHODS and found.kept_float == tuple(sorted(found.kept_float)) and min(found.kept_float) > 0
    assert found.fallback and set(found.fallback) <= set(PRECISIONS) - {"int8", "int8-mixed", "fp32"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("\nkept_flaot = [1]\n", "unknown key 'kept_flaot'"),
        ("\n[ladder]\nranges = []\n", "unknown key 'ladder'"),
    ],
)
def test_a_ladder_with_an_unknown_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, complaint: str
) -> None:
    path = tmp_path / "ladder.toml"
    path.write_text(candidates.SETTINGS.read_text() + change)
    monkeypatch.setattr(candidates, "SETTINGS", path)
    with pytest.raises(ConfigError, match=complaint):
        load_search_settings()


def test_a_ladder_whose_numbers_are_words_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ladder.toml"
    path.write_text(candidates.SETTINGS.read_text().replace("[1, 2,", '["one", 2,'))
    monkeypatch.setattr(candidates, "SETTINGS", path)
    with pytest.raises(ConfigError, match=r"kept_float\[0\]: expected int, got str"):
        load_search_settings()
