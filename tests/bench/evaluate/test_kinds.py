"""Folders that tell benign and malignant only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as oracle

from skinedge.data.dataset import Dataset, Sample, read_split
from skinedge.run.run_directory import Bundle
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.kinds import KINDS, by_kind, collapse

LABELS = ("bkl", "mel", "nv", "vasc")


def folder(labels: tuple[str, ...], partial: dict[str, tuple[str, ...]] | None = None) -> Dataset:
    names = (*labels, *(partial or {}))
    samples = tuple(Sample(name, f"{name}/x.jpg", name) for name in names)
    return Dataset(Path(), "class folders", labels, samples, partial=partial or {})


@pytest.mark.parametrize(
    ("labels", "partial", "kinds"),
    [
        (("benign", "malignant"), {}, ("benign", "malignant")),
        (("Benign", "Malignant", "premalignant"), {}, ("benign", "malignant", "malignant")),
        (("benign", "mel"), {}, ("benign", "malignant")),
        ((), {"good": ("bkl", "nv"), "bad": ("mel",)}, ("benign", "malignant")),
        (("mel",), {"good": ("bkl", "nv", "vasc")}, ("malignant", "benign")),
        (("mel", "nv"), {}, None),
        (("mel", "nv"), {"good": ("bkl", "nv")}, None),
        (("mel",), {"either": ("mel", "nv")}, None),
        (("benign",), {}, None),
        (("benign", "eczema"), {}, None),
    ],
)
def test_classes_that_tell_the_kind_only(
    labels: tuple[str, ...], partial: dict[str, tuple[str, ...]], kinds: tuple[str, ...] | None
) -> None:
    dataset = by_kind(folder(labels, partial), LABELS, (1,))
    assert (dataset and tuple(sample.label for sample in dataset.samples)) == kinds
    assert by_kind(folder(labels, partial), LABELS, None) is None


def test_the_two_classes_have_the_score_and_the_shares_of_the_models_classes() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1, 1], 50).astype(np.float32)
    truth = rng.integers(0, 2, 50)
    both = collapse(Predictions(LABELS, truth, probabilities, (1, 3), 0.4, (0.1, 0.2, 0.3, 0.4), None))
    assert both.labels == KINDS and both.prior == pytest.approx((0.4, 0.6)) and both.training is None
    assert both.score == pytest.approx(probabilities[:, 1] + probabilities[:, 3])
    assert both.flagged is not None and (both.flagged == (both.score >= 0.4)).all()


def test_evaluate_judges_such_a_folder_by_the_malignant_score(cli, tiny_run: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    bundle = Bundle.open(tiny_run)
    manifest = bundle.manifest
    test = [sample for sample in read_split(bundle.file("split.csv")) if sample.split == "test"]
    for sample in test:
        kind = KINDS[manifest.labels.index(sample.label) in manifest.malignant]
        (tmp_path / "kinds" / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(manifest.data_root) / sample.path, tmp_path / "kinds" / kind)
    code, shown, _ = cli("evaluate", tiny_run, "--data", tmp_path / "kinds", "--split", "test", "--json")
    document = json.loads(shown)
    own = json.loads(cli("evaluate", tiny_run, "--json")[1])
    assert code == 0 and document["classes"] == list(KINDS) and document["n"] == own["n"] == len(test)
    for name in ("auc", "sensitivity", "specificity", "sensitivity_counts"):
        assert document["malignant"][name] == own["malignant"][name]
    corners = np.array(document["roc"]["malignant"]) / document["roc"]["malignant"][-1]
    assert oracle.auc(*corners.T) == pytest.approx(own["malignant"]["auc"])
