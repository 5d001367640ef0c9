"""Which licence the images imply, and that files made before there was room for one still say what they said."""

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
    ("kind", "names", "license", "whom"),
    [
        ("HAM10000", ("ISIC_0024306", "ISIC_0034320"), NON_COMMERCIAL, "HAM10000: P. Tschandl"),
        ("class folders", ("ISIC_0024306",), NON_COMMERCIAL, "HAM10000: P. Tschandl"),
        ("class folders", ("mine", "isic_0024306_crop"), NON_COMMERCIAL, "HAM10000: P. Tschandl"),
        ("class folders", ("ISIC_0024306", "ISIC_0034321"), NON_COMMERCIAL, "The ISIC archive"),
        ("ISIC challenge", ("renamed",), NON_COMMERCIAL, "The ISIC archive"),
        ("MedMNIST", ("dermamnist/train/0",), NON_COMMERCIAL, "DermaMNIST"),
        ("MedMNIST", ("other/train/0",), "", ""),
        ("HAM10000", ("clinic_1",), "", ""),  # a clinic's own table, laid out alike
        ("HAM10000", ("SYNTHETIC_S0_0000001",), "", ""),
        ("class folders", ("photo1",), "", ""),
    ],
)
def test_the_terms_of_images(kind: str, names: tuple[str, ...], license: str, whom: str) -> None:
    found = licence_of(kind, named(*names))
    assert found.license == license
    assert found.attribution.startswith(whom) and bool(found.attribution) == bool(license)


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


def test_a_licence_travels_in_the_description() -> None:
    mine = described(license=NON_COMMERCIAL, attribution="whom")
    assert ModelDescription.from_json(mine.to_json(), "here") == mine
    assert json.loads(mine.to_json())["license"] == NON_COMMERCIAL


def test_a_file_from_before_there_was_a_licence_is_read_and_stays_current() -> None:
    """Its text is the same too: hashes of it decide whether a file is made again."""
    text = described().to_json()
    assert "license" not in text and "attribution" not in text
    assert ModelDescription.from_json(text, "here") == described()


@pytest.mark.parametrize("change", [{"surprise": 1}, {"labels": None}])
def test_an_unknown_or_a_missing_key_is_still_an_error(change: dict[str, object]) -> None:
    raw = {**json.loads(described().to_json()), **change}
    raw = {key: value for key, value in raw.items() if value is not None or key == "melanoma"}
    with pytest.raises(DataError, match="model description"):
        ModelDescription.from_json(json.dumps(raw), "here")
