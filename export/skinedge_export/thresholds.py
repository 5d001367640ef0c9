"""The malignant score from which on to flag, fitted for each file to what that file says of the cal split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge import __version__, documents, plugins
from skinedge.bundle import MODEL, Bundle, FileEntry
from skinedge.calibration import Reading, threshold
from skinedge.data.dataset import Sample, read_split
from skinedge.data.prepared import load_prepared
from skinedge.metrics import malignant_score, sensitivity_specificity
from skinedge.progress import note
from skinedge.spread import run_each
from skinedge_export.quiet import quiet

REPORT = "reports/thresholds.json"


def fit_thresholds(bundle: Bundle, images: Path | None) -> Bundle:
    """Set `thresholds[file]` in the manifest for every exported file; nothing to do if current.

    images: where the run's images are, None if unknown; without them (said on screen) the merged network's own
    threshold holds for its files too.
    """
    entries, cal = bundle.model_files(), [s for s in read_split(bundle.file("split.csv")) if s.split == "cal"]
    sensitivity = Reading.of(bundle.manifest.calibration).sensitivity
    asked = documents.digest([sensitivity, bundle.manifest.malignant])
    made_from = {"asked": asked, **{entry.path: entry.sha256 for entry in (*entries, bundle.entries()[MODEL])}}
    missing = [entry.path for entry in entries if entry.path not in bundle.manifest.thresholds]
    if not missing and bundle.is_current("thresholds", made_from):
        return bundle
    if images is None or not images.exists() or not cal:
        which, place = ", ".join(missing) or "none changed", images or "no --data DIR"
        note(f"thresholds: the images of the cal split are not here ({place}); that of {MODEL} is used for: {which}")
        return bundle
    note(f"thresholds: {len(entries)} files on {len(cal)} images of the cal split ...")
    found = {entry.path: scores for entry, scores in zip(entries, _scores(bundle, entries, images, cal), strict=True)}
    malignant = np.isin([bundle.manifest.labels.index(s.label) for s in cal], bundle.manifest.malignant)
    chosen = {name: threshold(scores, malignant, sensitivity) for name, scores in found.items()}
    with bundle.stage("thresholds", f"skinedge {__version__}", made_from) as stage:
        files = {name: _document(chosen[name], scores, malignant) for name, scores in found.items()}
        content = {"sensitivity": sensitivity, "images": len(cal), "malignant": int(malignant.sum()), "files": files}
        model = {"model_id": bundle.manifest.id, "model_sha256": bundle.entries()[MODEL].sha256}
        text = documents.to_text(documents.document("thresholds", content, **model))
        stage.path(REPORT).write_text(text, encoding="utf-8")
        stage.set(thresholds={"default": bundle.manifest.thresholds["default"], **chosen})
    return bundle.reload()


def _scores(
    bundle: Bundle, entries: Sequence[FileEntry], images: Path, cal: Sequence[Sample]
) -> list[NDArray[np.float64]]:
    """The malignant score of every cal image, by every file."""
    pixels = load_prepared(images, cal, bundle.manifest.preprocess.size)
    with quiet("running the files", ", ".join(entry.path for entry in entries)):
        paths = [bundle.file(entry.path) for entry in entries]
        outputs = run_each([plugins.runtimes_for(path)[0].open(path, threads=1) for path in paths], pixels)
    return [malignant_score(each.probabilities, bundle.manifest.malignant) for each in outputs]


def _document(chosen: float, scores: NDArray[np.float64], malignant: NDArray[np.bool_]) -> dict[str, float]:
    sensitivity, specificity = sensitivity_specificity(malignant, scores >= chosen)
    return {"threshold": chosen, "cal_sensitivity": sensitivity, "cal_specificity": specificity}
