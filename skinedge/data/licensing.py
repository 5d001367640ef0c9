"""Derive a model's licence from its training images. docs/data.md lists the licences of all layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinedge.data.dataset import DataSource, Sample, in_ham10000, isic_id

NON_COMMERCIAL = "CC-BY-NC-4.0"
HAM10000 = (
    "HAM10000: P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, a large collection of multi-source "
    "dermatoscopic images of common pigmented skin lesions, Scientific Data 5, 180161 (2018)"
)
DERMAMNIST = f"DermaMNIST of MedMNIST v2 (J. Yang et al., Scientific Data 10, 41, 2023), made from {HAM10000}"
ISIC = f"The ISIC archive and its challenges, among its sources {HAM10000}"

# By layout, where its publisher states one licence for all images. LicenseRef: not in SPDX's list.
STATED = {
    "PAD-UFES-20": ("CC-BY-4.0", "PAD-UFES-20: A. Pacheco et al., Data in Brief 32, 106221 (2020)"),
    "Fitzpatrick17k": ("CC-BY-NC-SA-3.0", "Fitzpatrick17k: M. Groh et al., CVPR Workshops (2021)"),
    "DDI": (
        "LicenseRef-Stanford-Research",
        "DDI: R. Daneshjou et al., Science Advances 8 (2022)",
    ),
    "SCIN": ("LicenseRef-SCIN-Data-Use", "SCIN: A. Ward et al., JAMA Network Open 7 (2024)"),
    "Derm7pt": ("LicenseRef-Research-Only", "Derm7pt: J. Kawahara et al., IEEE JBHI 23 (2019)"),
    "PH2": ("LicenseRef-Research-Only", "PH2: T. Mendonca et al., IEEE EMBC (2013)"),
}


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
    if kind in STATED:
        return Licence(*STATED[kind])
    archived = [sample for sample in samples if isic_id(sample)]
    if kind != "ISIC challenge" and not archived:
        return Licence()
    only_ham10000 = bool(archived) and all(map(in_ham10000, archived))
    return Licence(NON_COMMERCIAL, HAM10000 if only_ham10000 else ISIC)


def joint_licence(sources: Sequence[DataSource]) -> Licence:
    """Return the licence of weights trained on several sources: all of theirs apply, joined by AND.

    '' if that of any source is unknown: nobody has stated that the weights may be passed on.
    """
    joint = both(*(Licence(source.license, source.attribution) for source in sources))
    return joint if all(source.license for source in sources) else Licence("", joint.attribution)


def both(*licences: Licence) -> Licence:
    """Return the licence of weights that derive from several works: all that are known apply, joined by AND."""
    names = sorted({name for one in licences for name in one.license.split(" AND ") if name})
    attributions = dict.fromkeys(part for one in licences for part in one.attribution.split("; ") if part)
    return Licence(" AND ".join(names), "; ".join(attributions))
