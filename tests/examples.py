"""Example values for several tests."""

from __future__ import annotations

from typing import Any

from skinedge.core.preprocess import Preprocess
from skinedge.run.manifest import Manifest

TRAINING = {
    "backbone": "test_efficientnet",
    "base_weights": {"source": "random 0", "sha256": "0" * 64},
    "config": {"weights": "auto"},
    "data": {"kind": "class folders", "counts": {}, "training_prior": {"mel": 0.5, "nv": 0.5}},
}


def training(labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the training section of a manifest, for a run with these classes."""
    prior = dict.fromkeys(labels, 1 / len(labels))
    return {**TRAINING, "data": {"kind": "class folders", "counts": {}, "training_prior": prior}}


def model_info(format: str, precision: str = "fp32") -> dict[str, Any]:
    """Return a manifest's description of a model file."""
    return {
        "format": format,
        "precision": precision,
        "inputs": [{"name": "pixels", "shape": [-1, 224, 224, 3], "dtype": "float32"}],
        "outputs": [{"name": "probabilities", "shape": [-1, 2], "dtype": "float32"}],
        "ops": {},
        "versions": {},
        "gates": [],
    }


def manifest(name: str = "run", **changes: Any) -> Manifest:
    """Create the manifest of a run with two classes and no stages. changes: fields to replace."""
    fields: dict[str, Any] = {
        "id": name,
        "created_at": "2026-01-01T00:00:00",
        "synthetic": False,
        "domain": "dermoscopic",
        "labels": ("mel", "nv"),
        "taxonomy": {"mel": "malignant", "nv": "benign"},
        "melanoma": "mel",
        "preprocess": Preprocess(224),
        "class_prior": {"mel": 0.5, "nv": 0.5},
        "data_root": "/data",
    }
    return Manifest(name=name, **{**fields, **changes})
