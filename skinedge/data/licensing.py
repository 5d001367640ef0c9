"""Derive a model's licence from its training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinedge.data.dataset import Sample, in_ham10000, isic_id

NON_COMMERCIAL = "CC-BY-NC-4.0"
HAM10000 = (
    "HAM10000: P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, a large collection of multi-source "
    "dermatoscopic images of common pigmented skin lesions, Scientific Data 5, 180161 (2018)"
)
DERMAMNIST = f"DermaMNIST of MedMNIST v2 (J. Yang et al., Scientific Data 10, 41, 2023), made from {HAM10000}"
ISIC = f"The ISIC archive and its challenges, among its sources {HAM10000}"


@dataclass(frozen=True)
class Licence:
    """A licence. license: SPDX expression, '' if the images do not determine it; attribution: text, '' for none."""

    license: str = ""
    attribution: str = ""


def licence_of(kind: str, samples: Sequence[Sample]) -> Licence:
    """Return the licence of weights trained on these images. kind: as in `skinedge.data.dataset.Dataset`.

    Images of the ISIC archive (including HAM10000) and DermaMNIST are non-commercial, and a single one makes the model
    so. They are recognised by their names, since other datasets may use HAM10000's table layout.
    """
    if kind == "MedMNIST":
        is_dermamnist = any(sample.image_id.lower().startswith("dermamnist") for sample in samples)
        return Licence(NON_COMMERCIAL, DERMAMNIST) if is_dermamnist else Licence()
    archived = [sample for sample in samples if isic_id(sample)]
    if kind != "ISIC challenge" and not archived:
        return Licence()
    only_ham10000 = bool(archived) and all(map(in_ham10000, archived))
    return Licence(NON_COMMERCIAL, HAM10000 if only_ham10000 else ISIC)
