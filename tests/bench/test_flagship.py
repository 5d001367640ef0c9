"""The bundled model: complete, licensed, without images, and with unchanged outputs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from skinedge.data.dataset import read_split
from skinedge.data.split import check_split
from skinedge.publish import bundled_model
from skinedge.run.manifest import MANIFEST
from skinedge.run.run_directory import Bundle
from skinedge.stats import gates
from skinedge_bench.verify.verify import verify

if not (bundled_model.FOLDER / MANIFEST).is_file():
    pytest.skip("this checkout has no bundled model", allow_module_level=True)


@pytest.fixture
def flagship(tmp_path: Path) -> Bundle:
    """A copy that tests may write to."""
    bundled_model.copy_to(Bundle.open(bundled_model.FOLDER), tmp_path / "flagship")
    return Bundle.open(tmp_path / "flagship")


def test_both_int8_files_pass_the_golden_gates(flagship: Bundle) -> None:
    """On an x86 CPU without VNNI too, where U8S8 would saturate without exact sums."""
    files = {file.name: file.gates for file in verify(flagship).files}
    assert gates.passed(files["model.int8.tflite"]) and gates.passed(files["model.int8.onnx"])


def test_every_file_is_listed_and_none_is_an_image() -> None:
    bundle = Bundle.open(bundled_model.FOLDER)
    listed = {*bundle.entries(), MANIFEST}
    files = {path.relative_to(bundle.root).as_posix() for path in bundle.root.rglob("*") if path.is_file()}
    assert files == listed
    for name in bundle.entries():
        content = bundle.file(name).read_bytes()
        assert not content.startswith((b"\xff\xd8\xff", b"\x89PNG"))
        assert str(Path(__file__).resolve().parents[2]).encode() not in content


def test_no_lesion_is_in_two_splits_and_the_manifest_counts_match_the_split() -> None:
    bundle = Bundle.open(bundled_model.FOLDER)
    samples = read_split(bundle.file("split.csv"))
    check_split(samples)
    assert all(sample.lesion_id for sample in samples)
    counted = Counter((sample.split, sample.label) for sample in samples)
    recorded = bundle.manifest.training["data"]["counts"]
    assert {(s, label): n for s, labels in recorded.items() for label, n in labels.items() if n} == counted


def test_manifest_card_and_licence_file_state_licence_and_domain() -> None:
    bundle = Bundle.open(bundled_model.FOLDER)
    assert bundle.manifest.license == "CC-BY-NC-4.0" and "HAM10000" in bundle.manifest.attribution
    assert bundle.manifest.domain == "dermoscopic" and not bundle.manifest.synthetic
    for name in ("MODEL_CARD.md", "LICENSE"):
        text = bundle.file(name).read_text(encoding="utf-8")
        assert "CC-BY-NC-4.0" in text and "HAM10000" in text and "not a medical device" in text
    card = bundle.file("MODEL_CARD.md").read_text(encoding="utf-8")
    evaluation = json.loads(bundle.file("reports/evaluation.json").read_text(encoding="utf-8"))
    assert f"{evaluation['balanced_accuracy']:.4f}" in card
    assert evaluation["model_sha256"] in {entry.sha256 for entry in bundle.model_files()}
