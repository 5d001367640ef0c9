"""Domain of a dataset's images: told by its layout or its tables, never by the look of a name alone."""

from __future__ import annotations

from collections.abc import Sequence

from skinedge.data.dataset import Sample, in_ham10000, isic_id

UNKNOWN = "unknown"
# Types of images of the ISIC archive and MILK10k, without what follows a colon ('clinical: close-up').
_TYPES = {"dermoscopic": "dermoscopic", "clinical": "clinical", "overview": "clinical", "tbp tile": "clinical"}


def domain_of(samples: Sequence[Sample], of_layout: str = "", *, isic: bool = False) -> str:
    """Return 'dermoscopic', 'clinical', 'mixed' or 'unknown'.

    A column of image types counts most, then the layout: `of_layout`, which holds only for images with ISIC ids if
    `isic`. Without either, HAM10000's images are dermoscopic; the ISIC archive has clinical images too.
    """
    types = {sample.meta.get("image_type", "").casefold().partition(":")[0].strip() for sample in samples}
    if types - {""}:
        domains = {_TYPES.get(kind, UNKNOWN) for kind in types}
        if {"dermoscopic", "clinical"} <= domains:
            return "mixed"
        return domains.pop() if len(domains) == 1 else UNKNOWN
    if of_layout and not (isic and not all(map(isic_id, samples))):
        return of_layout
    return "dermoscopic" if samples and all(map(in_ham10000, samples)) else UNKNOWN
