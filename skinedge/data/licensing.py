"""Under which licence a model may travel, as far as the images that it was trained on tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinedge.data.dataset import Sample, isic_id

NON_COMMERCIAL = "CC-BY-NC-4.0"
HAM10000 = (
    "HAM10000: P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, a large collection of multi-source "
    "dermatoscopic images of common pigmented skin lesions, Scientific Data 5, 180161 (2018)"
)
DERMAMNIST = f"DermaMNIST of MedMNIST v2 (J. Yang et al., Scientific Data 10, 41, 2023), made from {HAM10000}"
ISIC = f"The ISIC archive and its challenges, among its sources {HAM10000}"
_FIRST, _LAST = "ISIC_0024306", "ISIC_0034320"  # HAM10000's images in the ISIC archive


@dataclass(frozen=True)
class Licence:
    """license: SPDX expression, '' where the images do not tell; attribution: whom to name, '' for nobody."""

    license: str = ""
    attribution: str = ""


def licence_of(kind: str, samples: Sequence[Sample]) -> Licence:
    """The terms of weights trained on these images. kind: as in `skinedge.data.dataset.Dataset`.

    The ISIC archive's images, HAM10000's among them, and DermaMNIST are non-commercial; a single such image among
    others makes the whole so. They are known by their names: anybody's table may be laid out as HAM10000's is.
    """
    if kind == "MedMNIST":
        theirs = any(sample.image_id.lower().startswith("dermamnist") for sample in samples)
        return Licence(NON_COMMERCIAL, DERMAMNIST) if theirs else Licence()
    names = {name for sample in samples if (name := isic_id(sample))}
    if kind != "ISIC challenge" and not names:
        return Licence()
    theirs = bool(names) and all(_FIRST <= name <= _LAST for name in names)
    return Licence(NON_COMMERCIAL, HAM10000 if theirs else ISIC)
