"""Paired statistics against their definitions, and the list of images whose diagnosis changed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from skinedge.system.cpu_features import instruction_set
from skinedge_bench.device import is_u8s8, saturation
from skinedge_bench.verify.comparison import ALARM, MISSED, Pair, Side, changes, compare

LABELS = ("benign", "cancer", "melanoma")


def pair(truth: list[int], before: list[list[float]], after: list[list[float]], **other: object) -> Pair:
    sides = [Side(np.array(rows, dtype=np.float32), 0.5) for rows in (before, after)]
    ids = tuple(f"image{index}" for index in range(len(truth)))
    fields = {"malignant": (1, 2), "melanoma": 2, "reference": sides[0], "file": sides[1], **other}
    return Pair(ids=ids, labels=LABELS, truth=np.array(truth), **fields)  # type: ignore[arg-type]


def test_the_statistics_are_those_of_loops_over_images() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 400)
    logits = rng.normal(size=(400, 3)) + 2 * np.eye(3)[truth]
    before = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    moved = logits + rng.normal(size=(400, 3)) * 0.5
    after = np.exp(moved) / np.exp(moved).sum(axis=1, keepdims=True)
    both = pair(truth.tolist(), before.tolist(), after.tolist())
    both = Pair(**{**both.__dict__, "file": Side(both.file.probabilities, 0.6)})
    found = compare(both)
    cells = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    melanomas, malignant, score = [0, 0, 0], [0, 0, 0], 0.0
    for label, old, new in zip(truth, before, after, strict=True):
        cells[bool(old.argmax() == label), bool(new.argmax() == label)] += 1
        score += abs((new[1] + new[2]) - (old[1] + old[2])) / 400
        if label == 2:
            melanomas = [melanomas[0] + 1, melanomas[1] + (old.argmax() == 2), melanomas[2] + (new.argmax() == 2)]
        if label > 0:
            flags = [1 - old[0] >= 0.5, 1 - new[0] >= 0.6]  # each at its own threshold
            malignant = [malignant[0] + 1, malignant[1] + flags[0], malignant[2] + flags[1]]
    table = found.mcnemar
    assert [table.both, table.only_reference, table.only_file, table.neither] == list(cells.values())
    assert min(table.only_reference, table.only_file) > 5
    assert table.p == pytest.approx(stats.binomtest(table.only_file, table.only_reference + table.only_file).pvalue)
    for drop, (n, old, new) in (
        (found.melanoma_sensitivity_fall, melanomas),
        (found.malignant_sensitivity_fall, malignant),
    ):
        assert drop is not None and drop.n == n and drop.value == pytest.approx((old - new) / n)
        assert drop.low < drop.value < drop.high
    change = found.malignant_score_change
    assert change is not None and change.value == pytest.approx(score, abs=1e-6) and change.low < score < change.high
    assert found.document()["mcnemar"] == {**table.__dict__, "p": table.p}


def test_without_malignant_classes_nothing_malignant_is_measured() -> None:
    rows = [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]
    found = compare(pair([0, 2], rows, rows, malignant=(), melanoma=None))
    assert found.melanoma_sensitivity_fall is found.malignant_sensitivity_fall is found.malignant_score_change is None
    never = Side(np.array(rows, dtype=np.float32), None)
    assert compare(pair([0, 2], rows, rows, reference=never)).malignant_sensitivity_fall is None


def test_missed_cancers_come_first_then_false_alarms_then_other_changes() -> None:
    before = [
        [0.2, 0.7, 0.1],  # cancer, still flagged, called melanoma: the verdict stays
        [0.55, 0.4, 0.05],  # benign: a false alarm now
        [0.3, 0.1, 0.6],  # benign, flagged by the reference alone, by .4
        [0.45, 0.0, 0.55],  # melanoma, lost by .1
        [0.4, 0.0, 0.6],  # melanoma, lost by .2
        [0.8, 0.1, 0.1],  # nothing happens
    ]
    after = [
        [0.2, 0.1, 0.7],
        [0.4, 0.55, 0.05],
        [0.7, 0.0, 0.3],
        [0.55, 0.0, 0.45],
        [0.6, 0.0, 0.4],
        [0.7, 0.2, 0.1],
    ]
    found = changes(pair([1, 0, 0, 2, 2, 0], before, after))
    assert [change.image for change in found] == ["image4", "image3", "image2", "image1", "image0"]
    assert [change.verdict for change in found] == [MISSED, MISSED, MISSED, ALARM, None]
    first = found[0]
    assert (first.label, first.reference, first.file) == ("melanoma", "melanoma", "benign")
    assert (first.reference_probability, first.file_probability) == pytest.approx((0.6, 0.6))
    assert (first.reference_malignant, first.file_malignant) == pytest.approx((0.6, 0.4))


def test_a_flag_alone_is_a_changed_diagnosis() -> None:
    """The most likely class stays, the malignant score is below the file's own threshold."""
    rows = [[0.45, 0.3, 0.25]]
    strict = Side(np.array(rows, dtype=np.float32), 0.9)
    (change,) = changes(pair([1], rows, rows, file=strict))
    assert change.verdict == MISSED and change.reference == change.file == "benign"
    never = Side(np.array(rows, dtype=np.float32), None)
    assert changes(pair([1], rows, rows, file=never)) == ()


X86 = frozenset({"fpu", "sse4_1", "avx", "avx2", "fma"})


@pytest.mark.parametrize(
    ("features", "warned"),
    [
        (X86, True),
        (X86 | {"avx512f", "avx512bw"}, True),  # 512 bits wide, but without the dot product
        (X86 | {"avx512_vnni"}, False),
        (X86 | {"avx_vnni"}, False),
        ({"asimd", "asimddp", "i8mm"}, False),
        ({"asimd"}, False),
        (frozenset(), False),  # not known
    ],
)
def test_u8s8_saturates_on_x86_without_vnni(features: frozenset[str], warned: bool) -> None:
    files = {"model.int8.onnx": "int8", "model.int8.tflite": "int8", "model.int8.arm.onnx": "int8"}
    warning = saturation(files, features)
    assert (warning is not None) == warned
    if warning:
        assert warning.startswith("model.int8.onnx: ")
    assert saturation({"model.fp32.onnx": "fp32", "model.int8.tflite": "int8"}, features) is None


def test_the_files_that_multiply_unsigned_by_signed_bytes() -> None:
    yes = {"model.int8.onnx": "int8", "model.int8-mixed.google.logits.onnx": "int8-mixed"}
    no = {"model.int8.arm.uint8.onnx": "int8", "model.int8-weight.onnx": "int8-weight", "model.int8.tflite": "int8"}
    assert all(is_u8s8(*item) for item in yes.items()) and not any(is_u8s8(*item) for item in no.items())


def test_the_instruction_set_has_only_features_that_affect_a_model() -> None:
    assert instruction_set({"fpu", "avx2", "avx512_vnni", "hypervisor"}) == ("avx2", "avx512_vnni")
