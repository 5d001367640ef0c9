"""The licence implied by training images; descriptions from before the licence fields stay readable and unchanged."""

from __future__ import annotations

import json

import pytest

from skinedge.core.errors import DataError
from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import Sample
from skinedge.data.licensing import NON_COMMERCIAL, licence_of
from skinedge.run.embedded_metadata import ModelDescription


def named(*names: str) -> list[Sample]:
    return [Sample(name, f"nv/{name}.jpg", "nv") for name in names]


@pytest.mark.parametrize(
    ("kind", "names", "license", "attribution"),
    [
        ("HAM10000", ("ISIC_0024306", "ISIC_0034320"), NON_COMMERCIAL, "HAM10000: P. Tschandl"),
        ("class folders", ("ISIC_0024306",), NON_COMMERCIAL, "HAM10000: P. Tschandl"),
        ("class folders", ("mine", "isic_0024306_crop"), NON_COMMERCIAL, "HAM10000: P. Tschandl"),
        ("class folders", ("ISIC_0024306", "ISIC_0034321"), NON_COMMERCIAL, "The ISIC archive"),
        ("ISIC challenge", ("renamed",), NON_COMMERCIAL, "The ISIC archive"),
        ("MedMNIST", ("dermamnist/train/0",), NON_COMMERCIAL, "DermaMNIST"),
        ("MedMNIST", ("other/train/0",), "", ""),
        ("HAM10000", ("clinic_1",), "", ""),  # a clinic's own table with the same columns
        ("HAM10000", ("SYNTHETIC_S0_0000001",), "", ""),
        ("class folders", ("photo1",), "", ""),
    ],
)
def test_licence_of_training_images(kind: str, names: tuple[str, ...], license: str, attribution: str) -> None:
    licence = licence_of(kind, named(*names))
    assert licence.license == license
    assert licence.attribution.startswith(attribution) and bool(licence.attribution) == bool(license)


def described(**changes: object) -> ModelDescription:
    fields: dict[str, object] = {
        "run_id": "1",
        "name": "one",
        "architecture": "resnet18",
        "labels": ("mel", "nv"),
        "taxonomy": {"mel": "malignant", "nv": "benign"},
        "melanoma": "mel",
        "class_prior": {"mel": 0.5, "nv": 0.5},
        "preprocess": Preprocess(64),
        "domain": "dermoscopic",
        "synthetic": False,
    }
    return ModelDescription(**{**fields, **changes})  # type: ignore[arg-type]


def test_description_contains_the_licence() -> None:
    description = described(license=NON_COMMERCIAL, attribution="whom")
    assert ModelDescription.from_json(description.to_json(), "here") == description
    assert json.loads(description.to_json())["license"] == NON_COMMERCIAL


def test_description_without_a_licence_is_read_and_written_unchanged() -> None:
    """The text must not change: its hash decides whether a file is exported again."""
    text = described().to_json()
    assert "license" not in text and "attribution" not in text
    assert ModelDescription.from_json(text, "here") == described()


@pytest.mark.parametrize("change", [{"surprise": 1}, {"labels": None}])
def test_unknown_or_missing_key_in_a_description_is_refused(change: dict[str, object]) -> None:
    raw = {**json.loads(described().to_json()), **change}
    raw = {key: value for key, value in raw.items() if value is not None or key == "melanoma"}
    with pytest.raises(DataError, match="model description"):
        ModelDescription.from_json(json.dumps(raw), "here")
