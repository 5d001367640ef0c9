"""The precision search's choice among hand-made candidates: order, stopping, errors, notes and report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
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
from skinedge_export.search import candidates, precision_search
from skinedge_export.search.candidates import (
    Candidate,
    SearchSettings,
    chosen_last,
    given_up,
    load_search_settings,
    report,
    timed,
)
from skinedge_export.target import SEARCH, ExportTarget

LAYERS = [(Layer((f"layer{i}",)), 1.0 / (i + 1)) for i in range(6)]
INT8 = ExportTarget("onnx", SEARCH)
ANY = ExportTarget("onnx", SEARCH, fallback=True)

GOOD = (Gate("agreement", 0.99, 0.97, "pass"), Gate("balanced_accuracy_fall", 0.001, 0.01, "inconclusive"))
INCONCLUSIVE = (Gate("agreement", 0.99, 0.97, "pass"), Gate("balanced_accuracy_fall", 0.02, 0.01, "inconclusive"))
BAD = (Gate("agreement", 0.5, 0.97, "fail"), Gate("balanced_accuracy_fall", 0.3, 0.01, "fail"))
Plan = dict[str, tuple[tuple[Gate, ...], float]]


@dataclass
class Clock:
    """A session that records when it was run."""

    name: str
    turns: list[str]

    def run(self, pixels: np.ndarray) -> Outputs:
        self.turns.append(self.name)
        return Outputs(np.ones((len(pixels), 1), np.float32))


def figures(distance: float) -> CandidateMetrics:
    return CandidateMetrics(100, 0.99, distance, 0.8, 0.01, 0.7, 0.9, 0.002)


def candidate(
    recipe: ExportRecipe, kept_float: tuple[Layer, ...], gates: tuple[Gate, ...], distance: float, **more: Any
) -> Candidate:
    artifact = Artifact(Path("file.onnx"), recipe.precision, (), (), (), {})
    names = tuple(layer.name for layer in kept_float)
    return Candidate(artifact, recipe, names, gates, figures(distance), **{"partitions": 2, "size": 1000, **more})


@dataclass
class Workshop:
    """Searches with planned candidates in place of converted files, and without images.

    plan: 'int8 mse' or 'int8-mixed 2' or 'fp16' -> gates and distance, else BAD.
    """

    monkeypatch: pytest.MonkeyPatch
    folder: Path
    plan: Plan = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    times_ranked: int = 0
    bundle: Any = field(default_factory=lambda: SimpleNamespace(manifest=SimpleNamespace(malignant=())))

    def make_candidate(
        self, target: ExportTarget, recipe: ExportRecipe, kept_float: tuple[Layer, ...], *_: Any
    ) -> Candidate:
        variants = {"int8": f" {recipe.calibration.ranges}", "int8-mixed": f" {len(kept_float)}"}
        name = recipe.precision + variants.get(recipe.precision, "")
        self.made.append(name)
        gates, distance = self.plan.get(name, (BAD, 9.0))
        return candidate(recipe, kept_float, gates, distance)

    def ranked(self, _: CalibrationSettings) -> Sequence[tuple[Layer, float]]:
        self.times_ranked += 1
        return LAYERS

    def val(self, _: Any) -> None:
        return None

    def cal(self) -> None:
        return None

    def search(self, target: ExportTarget, settings: SearchSettings | None = None) -> tuple[Candidate, ...]:
        self.monkeypatch.setattr(precision_search, "make_candidate", self.make_candidate)
        if settings:
            self.monkeypatch.setattr(precision_search, "load_search_settings", lambda: settings)
        return precision_search.search_precision(target, self, self.folder).candidates  # type: ignore[arg-type]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workshop:
    return Workshop(monkeypatch, tmp_path)


def test_convincing_static_int8_ends_the_search_and_the_nearest_is_chosen(work: Workshop) -> None:
    work.plan = {"int8 min-max": (GOOD, 0.3), "int8 percentile": (GOOD, 0.1), "int8 mse": (GOOD, 0.2)}
    found = work.search(INT8)
    assert [made.name for made in found] == ["int8 (min-max)", "int8 (mse)", "int8 (percentile)"]
    assert work.made == ["int8 min-max", "int8 percentile", "int8 mse"]
    assert work.times_ranked == 0, "sensitivity was measured for nothing"


def test_a_nearer_candidate_that_failed_or_is_inconclusive_is_not_chosen(work: Workshop) -> None:
    work.plan = {"int8 min-max": (BAD, 0.0), "int8 percentile": (INCONCLUSIVE, 0.1), "int8 mse": (GOOD, 0.9)}
    assert work.search(INT8)[-1].name == "int8 (mse)"


def test_mixed_stops_at_the_first_number_of_layers_that_convinces(work: Workshop) -> None:
    work.plan = {"int8-mixed 2": (GOOD, 0.5), "int8-mixed 4": (GOOD, 0.1)}
    found = work.search(ANY)
    assert work.made == ["int8 min-max", "int8 percentile", "int8 mse", "int8-mixed 1", "int8-mixed 2"]
    assert work.times_ranked == 1
    assert found[-1].kept_float == ("layer0", "layer1"), "the worst layers"
    assert found[-1].recipe.precision == "int8-mixed" and len(found) == 5


def test_the_search_goes_on_after_an_inconclusive_candidate_and_prefers_a_convincing_one(work: Workshop) -> None:
    work.plan = {"int8 mse": (INCONCLUSIVE, 0.1), "int8-mixed 1": (GOOD, 0.4)}
    found = work.search(INT8)
    assert found[-1].name == "int8-mixed (1 layers in float)"
    assert work.made[-1] == "int8-mixed 1"


def test_without_a_convincing_candidate_the_nearest_that_passed_is_chosen(work: Workshop) -> None:
    work.plan = {
        "int8 mse": (INCONCLUSIVE, 0.2),
        "int8-mixed 2": (INCONCLUSIVE, 0.1),
        "int8-mixed 4": (INCONCLUSIVE, 0.3),
    }
    found = work.search(INT8)
    assert found[-1].name == "int8-mixed (2 layers in float)" and not found[-1].convincing
    assert work.made == ["int8 min-max", "int8 percentile", "int8 mse", "int8-mixed 1", "int8-mixed 2", "int8-mixed 4"]
    assert len(found) == 6, "eight of six layers cannot be kept, and nothing else was left out"


def test_mixed_never_keeps_all_layers_in_float(work: Workshop) -> None:
    work.plan = {}
    with pytest.raises(GateError):
        work.search(INT8, SearchSettings(("min-max",), (5, 6, 7), ()))
    assert work.made == ["int8 min-max", "int8-mixed 5"]


def test_precisions_below_int8_are_tried_with_a_fallback_only_in_their_order(work: Workshop) -> None:
    work.plan = {"int8-weight": (BAD, 0.1), "fp16": (GOOD, 0.0)}
    with pytest.raises(GateError):
        work.search(INT8)
    found = work.search(ANY)
    assert found[-1].name == "fp16" and work.made[-2:] == ["int8-weight", "fp16"]


def test_a_search_without_result_lists_each_candidate_its_gates_and_what_to_do(work: Workshop) -> None:
    worse = (Gate("agreement", 0.4, 0.97, "fail"), Gate("finite", 3, 0, "fail"), Gate("melanoma", 0.0, 1, "pass"))
    work.plan = {"int8 mse": (worse, 0.1)}
    with pytest.raises(GateError) as caught:
        work.search(INT8)
    lines = str(caught.value).splitlines()
    assert lines[0] == "model.int8.onnx: no file kept the diagnosis on validation images:"
    both = "agreement 0.5 (limit 0.97); balanced_accuracy_fall 0.3 (limit 0.01)"
    assert lines[1:7] == [
        f"  int8 (min-max): {both}",
        f"  int8 (percentile): {both}",
        "  int8 (mse): agreement 0.4 (limit 0.97); finite 3 (limit 0)",
        *(f"  int8-mixed ({number} layers in float): {both}" for number in (1, 2, 4)),
    ]
    assert "--fallback any" in lines[-1] and "This file was not written" in lines[-1]


def test_the_error_of_a_single_candidate_names_its_first_failed_gate(work: Workshop) -> None:
    gates = (GOOD[0], Gate("max_difference", 0.25, 0.001, "fail", "logits"))
    work.plan = {"fp32": (gates, 0.1)}
    with pytest.raises(GateError, match=r"gate 'max_difference' failed: 0\.25, limit 0\.001 \(logits\)"):
        work.search(ExportTarget("onnx", "fp32"))


def test_a_file_that_its_runtime_cannot_load_has_failed_and_the_search_goes_on(
    work: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    unloadable = (Gate("loads", None, 0, "fail", "LiteRT cannot load this file (node 73)"),)
    work.plan = {f"int8 {name}": (unloadable, 9.0) for name in METHODS} | {"int8-mixed 1": (GOOD, 0.1)}
    assert work.search(INT8)[-1].name == "int8-mixed (1 layers in float)"
    assert "int8 (mse): failed, LiteRT cannot load this file (node 73)\n" in capsys.readouterr().err
    work.plan = {"fp32": (unloadable, 9.0)}
    with pytest.raises(GateError, match=r"model\.fp32\.onnx: LiteRT cannot load this file \(node 73\)"):
        work.search(ExportTarget("onnx", "fp32"))


def test_each_candidates_verdict_is_printed(work: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    work.plan = {"int8 percentile": (INCONCLUSIVE, 0.2), "int8 mse": (GOOD, 0.1)}
    work.search(INT8)
    said = capsys.readouterr()
    assert said.out == ""
    assert "int8 (min-max): failed, agreement 0.5 (limit 0.97)" in said.err
    assert "int8 (percentile): inconclusive, balanced_accuracy_fall 0.02 (limit 0.01)" in said.err
    assert "int8 (mse): inconclusive\n" in said.err  # chosen, and not passed


@pytest.mark.parametrize(
    ("gate", "convincing"),
    [
        (Gate("agreement", 0.96, 0.97, "inconclusive"), False),
        (Gate("agreement", 0.98, 0.97, "inconclusive"), True),
        (Gate("agreement", None, 0.97, "inconclusive"), True),  # nothing was measured: nothing speaks against it
        (Gate("balanced_accuracy_fall", 0.011, 0.01, "inconclusive"), False),
        (Gate("balanced_accuracy_fall", 0.01, 0.01, "inconclusive"), True),
        (Gate("balanced_accuracy_fall", -0.2, 0.01, "pass"), True),
        (Gate("malignant_score_change", 0.02, 0.01, "fail"), False),
    ],
)
def test_an_estimate_beyond_its_limit_does_not_convince(gate: Gate, convincing: bool) -> None:
    made = candidate(ExportRecipe("onnx", "int8"), (), (GOOD[0], gate), 0.1)
    assert made.convincing == convincing and made.passed == (gate.verdict != "fail")


def test_a_candidate_without_gates_has_not_passed() -> None:
    made = candidate(ExportRecipe("onnx", "int8"), (), (), 0.1)
    assert not made.passed and not made.convincing


def test_an_undefined_distance_is_never_the_nearest(work: Workshop) -> None:
    work.plan = {"int8 min-max": (GOOD, float("nan")), "int8 percentile": (GOOD, 0.4), "int8 mse": (GOOD, float("inf"))}
    assert work.search(INT8)[-1].name == "int8 (percentile)"


def test_an_undefined_agreement_is_never_the_nearest() -> None:
    made = [candidate(ExportRecipe("onnx", name), (), (GOOD[0],), 0.1) for name in ("int8", "fp16")]
    assert made[0].figures is not None
    undefined = replace(made[0], figures=replace(made[0].figures, agreement=float("nan")))
    assert chosen_last([undefined, made[1]])[-1] is made[1]


def test_candidates_and_the_fp32_file_are_timed_in_turns_and_keep_their_order() -> None:
    turns: list[str] = []
    sessions = [Clock(name, turns) for name in "abcx"]
    recipe = ExportRecipe("onnx", "int8")
    made = [candidate(recipe, (), GOOD, 0.1, size=size) for size in (1, 2, 3)]
    measured, fp32_ms = timed(made, sessions, np.zeros((1, 4, 4, 3)))
    assert turns == list("abcx") * (len(turns) // 4) and len(turns) > 4 * candidates.ROUNDS
    assert [each.size for each in measured] == [1, 2, 3]
    assert all(each.milliseconds is not None and each.milliseconds > 0 for each in measured) and fp32_ms is not None
    turns.clear()
    measured, fp32_ms = timed(made, sessions[:3], np.zeros((1, 4, 4, 3)))
    assert len(measured) == 3 and fp32_ms is None and set(turns) == set("abc")


def test_the_report_lists_every_candidate_and_what_was_given_up() -> None:
    static, mixed = ExportRecipe("onnx", "int8"), ExportRecipe("onnx", "int8-mixed", CalibrationSettings(ranges="mse"))
    kept = tuple(layer for layer, _ in LAYERS[:2])
    tried = [
        candidate(static, (), BAD, 0.7, milliseconds=4.0, size=1_000_000),
        candidate(mixed, kept, GOOD, 0.1, milliseconds=5.5, size=1_250_000),
    ]
    document = json.loads(json.dumps(report(tried, 100, 9.0)))
    assert document["validation_images"] == 100 and document["chosen"] == "int8-mixed (2 layers in float)"
    assert document["given_up"] == given_up(tried, 9.0) == "+1.50 ms and +0.25 MB against int8 (min-max)"
    assert document["fp32_milliseconds"] == 9.0
    first, last = document["rungs"]
    assert (first["passed"], first["convincing"], first["ranges"], first["kept_float"]) == (False, False, "min-max", [])
    assert [gate["verdict"] for gate in first["gates"]] == ["fail", "fail"]
    assert (last["passed"], last["ranges"], last["kept_float"]) == (True, "mse", ["layer0", "layer1"])
    assert (last["size_bytes"], last["milliseconds"], last["partitions"]) == (1_250_000, 5.5, 2)
    assert last["validation"]["balanced_accuracy"] == 0.8 and last["validation"]["melanoma_sensitivity"] == 0.7
    assert given_up([tried[0], tried[0]], 9.0) == "", "static int8 gives nothing up"
    assert given_up([tried[0], tried[0]], None) == "", "and is not compared with what was not measured"
    assert given_up([tried[0], tried[0]], 3.5) == "no faster than fp32 on this CPU (4.00 against 3.50 ms)"
    assert given_up(tried, 5.5).startswith("+1.50 ms and +0.25 MB against int8 (min-max); no faster than fp32")


def test_the_packaged_settings_are_valid() -> None:
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
def test_settings_with_an_unknown_key_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, complaint: str
) -> None:
    path = tmp_path / "search.toml"
    path.write_text(candidates.SETTINGS.read_text() + change)
    monkeypatch.setattr(candidates, "SETTINGS", path)
    with pytest.raises(ConfigError, match=complaint):
        load_search_settings()


def test_settings_with_words_for_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "search.toml"
    path.write_text(candidates.SETTINGS.read_text().replace("[1, 2,", '["one", 2,'))
    monkeypatch.setattr(candidates, "SETTINGS", path)
    with pytest.raises(ConfigError, match=r"kept_float\[0\]: expected int, got str"):
        load_search_settings()
