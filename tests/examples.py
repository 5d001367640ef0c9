"""Values that several tests start from."""

from __future__ import annotations

from typing import Any

from skinedge.manifest import Manifest
from skinedge.preprocess import Preprocess


def manifest(name: str = "run", **changes: Any) -> Manifest:
    """The manifest of a run of two classes with no stage; changes: of its fields."""
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
