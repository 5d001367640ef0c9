"""The order of mistakes by harm, against a plain restatement, and their tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import REPOSITORY
from msgspec import structs

from skinedge.core.json_io import build
from skinedge.run.class_order import Reference
from skinedge.run.manifest import Manifest
from skinedge.run.report_schemas import DAMAGED, Change, Evaluation, Parity
from skinedge.run.run_directory import Bundle
from skinedge_bench.evaluate.tables import Table
from skinedge_bench.report.content import Missing, Text
from skinedge_bench.report.mistakes import KINDS, LISTED, NETWORK, Judged, find_mistakes, judge, mistakes_section, named
from skinedge_bench.report.sources import EVALUATION, PARITY, read_mistakes, read_raw

FLAGSHIP = REPOSITORY / "skinedge" / "flagship"
BENIGN = ("bkl", "df", "nv", "vasc")


@pytest.fixture
def manifest() -> Manifest:
    """The bundled model's manifest, with the threshold 0.3."""
    if not (FLAGSHIP / "manifest.json").is_file():
        pytest.skip("the model that ships with the package is not there")
    return replace(Bundle.open(FLAGSHIP).manifest, thresholds={"default": 0.3})


def judged(manifest: Manifest, *cases: tuple[str, dict[str, float]]) -> Reference:
    """Make a reference from (truth, probabilities of some classes); the rest is shared by the other classes."""
    labels = manifest.labels
    rows = []
    for _, given in cases:
        rest = (1 - sum(given.values())) / (len(labels) - len(given))
        rows.append([np.log(given.get(label, rest)) for label in labels])
    truth = np.array([labels.index(label) for label, _ in cases])
    return Reference(tuple(f"i{i}" for i in range(len(cases))), truth, np.array(rows, dtype=np.float32))


def test_the_most_harmful_come_first(manifest: Manifest) -> None:
    reference = judged(
        manifest,
        ("nv", {"bkl": 0.6}),  # benign for benign
        ("nv", {"mel": 0.6}),  # false alarm
        ("mel", {"bcc": 0.6}),  # malignant for malignant
        ("bcc", {"nv": 0.9}),  # missed, not flagged
        ("mel", {"nv": 0.5, "mel": 0.4}),  # called benign, yet flagged
        ("mel", {"nv": 0.9}),  # missed
        ("mel", {"mel": 0.9}),  # right
        ("nv", {"mel": 0.9}),  # false alarm, surer
        ("mel", {"nv": 0.95}),  # missed, surer
    )
    found = find_mistakes(manifest, reference)
    assert [mistake.image for mistake in found] == ["i8", "i5", "i4", "i3", "i7", "i1", "i2", "i0"]
    assert [mistake.kind for mistake in found] == [0, 0, 0, 1, 2, 2, 3, 4]
    assert [mistake.flagged for mistake in found][:4] == [False, False, True, False]
    assert found[0].probability == pytest.approx(0.95, abs=1e-5)
    malignant = [label for label in manifest.labels if label not in BENIGN]
    assert found[0].score == pytest.approx(0.05 / 6 * len(malignant), abs=1e-5)


def test_every_mistake_of_a_random_network_has_its_kind(manifest: Manifest) -> None:
    rng = np.random.default_rng(0)
    count, classes = 400, len(manifest.labels)
    labels = rng.integers(0, classes, count)
    reference = Reference(tuple(map(str, range(count))), labels, rng.normal(size=(count, classes)).astype(np.float32))
    found = find_mistakes(manifest, reference)
    assert (
        sorted(mistake.index for mistake in found) == (reference.logits.argmax(axis=1) != labels).nonzero()[0].tolist()
    )
    for mistake in found:
        benign = mistake.answer in BENIGN
        if mistake.truth in BENIGN:
            assert KINDS[mistake.kind] == ("benign lesion taken for another benign class" if benign else KINDS[2])
        elif benign:
            assert mistake.kind == (0 if mistake.truth == "mel" else 1)
        else:
            assert mistake.kind == 3
    tables = [
        block
        for block in mistakes_section(Judged("a network", "", found, count), None, ()).blocks
        if isinstance(block, Table)
    ]
    counts, listed = tables
    assert [row[1] for row in counts.rows] == [sum(m.kind == kind for m in found) for kind in range(5)]
    assert len(listed.rows) == sum(min(int(str(row[1])), LISTED) for row in counts.rows)
    assert f"at most {LISTED} of a kind" in listed.title


def test_without_mistakes_or_threshold(manifest: Manifest) -> None:
    right = judged(manifest, ("mel", {"mel": 0.9}))
    only, how = mistakes_section(judge(manifest, right, None), None, ()).blocks
    assert isinstance(only, Text) and "right for all 1 test images" in only.text
    assert isinstance(how, Text) and how.text.startswith("Judged: the merged network in PyTorch")
    wrong = find_mistakes(replace(manifest, thresholds={}), judged(manifest, ("mel", {"nv": 0.9})))
    assert wrong[0].flagged is None
    blocks = mistakes_section(Judged("a network", "", wrong, 1), None, ()).blocks
    assert [block.command for block in blocks if isinstance(block, Missing)] == ["skinedge report RUN --with-images"]
    assert [block.rows[0][-1] for block in blocks if isinstance(block, Table)] == [None, None]


def test_the_default_file_is_judged_where_its_answers_are_recorded() -> None:
    """The counts are those of the confusion table and the flags of `evaluate` on the same file and images."""
    bundle = Bundle.open(FLAGSHIP) if (FLAGSHIP / "manifest.json").is_file() else pytest.skip("no shipped model")
    parity = build(read_raw(bundle, PARITY), Parity, PARITY, error=DAMAGED)
    manifest, evaluation = bundle.manifest, build(read_raw(bundle, EVALUATION), Evaluation, EVALUATION, error=DAMAGED)
    name = str(manifest.default_file)
    judged = read_mistakes(bundle, parity)
    assert judged.model == name == evaluation.file
    for i, truth in enumerate(manifest.labels):
        answers = Counter(mistake.answer for mistake in judged.listed if mistake.truth == truth)
        assert [answers[label] for label in manifest.labels if label != truth] == [
            count for j, count in enumerate(evaluation.confusion[i]) if j != i
        ]
    first, how = mistakes_section(judged, None, ()).blocks[:2]
    assert isinstance(first, Text) and isinstance(how, Text) and how.text.startswith(f"Judged: {name} at its threshold")
    hits, total = evaluation.malignant.sensitivity_counts or (0, 0)
    missed = [m for m in judged.listed if not m.flagged and manifest.labels.index(m.truth) in manifest.malignant]
    assert len(missed) <= total - hits  # an image may also be missed with the right class
    for unknown in (replace_file(parity, name), None):  # the record is of an earlier file, or there is none
        assert read_mistakes(bundle, unknown).model == NETWORK


def test_changed_answers_replace_those_of_the_network(manifest: Manifest) -> None:
    reference = judged(manifest, ("mel", {"mel": 0.9}), ("mel", {"nv": 0.5, "mel": 0.4}), ("nv", {"nv": 0.9}))
    wrong = Change("i0", "mel", "mel", 0.9, "nv", 0.6, 0.9, 0.25, "malignant to benign")
    right = Change("i1", "mel", "nv", 0.5, "mel", 0.5, 0.4, 0.5, None)
    (mistake,) = find_mistakes(manifest, reference, (wrong, right))
    assert (mistake.image, mistake.answer, mistake.probability, mistake.score) == ("i0", "nv", 0.6, 0.25)
    assert mistake.kind == 0 and mistake.flagged is False


def replace_file(parity: Parity, name: str) -> Parity:
    """Return the report as of an earlier file."""
    return structs.replace(parity, files={name: structs.replace(parity.files[name], sha256="0" * 64)})


def test_classes_have_their_full_names() -> None:
    assert named("mel") == "melanoma (mel)" and named("melanoma") == "melanoma"
