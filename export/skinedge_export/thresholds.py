"""Decision thresholds on the malignant score, fitted for each file to its own scores of the cal split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge import __version__
from skinedge.core import json_io
from skinedge.core.errors import GateError
from skinedge.core.preprocess import Pixels
from skinedge.data.dataset import read_split
from skinedge.data.loading import load_prepared
from skinedge.run import plugins
from skinedge.run.file_trial import try_file
from skinedge.run.manifest import MODEL
from skinedge.run.parallel_sessions import ParallelSessions
from skinedge.run.run_directory import Bundle
from skinedge.stats.calibration import Reading, threshold
from skinedge.stats.metrics import malignant_score, sensitivity_specificity
from skinedge.system.progress import note
from skinedge_export.captured_output import captured_output

REPORT = "reports/thresholds.json"
Scores = NDArray[np.float64]


def fit_thresholds(bundle: Bundle, images: Path | None, known: Mapping[str, Scores] | None = None) -> Bundle:
    """Set `thresholds[file]` in the manifest for every exported file, unless they are up to date.

    images: folder of the run's images, None if unknown; without them the files use the merged network's threshold, and
    a note says so; known: file name -> its malignant scores of the cal images, for files that need not be run again.
    """
    entries, cal = bundle.model_files(), [s for s in read_split(bundle.file("split.csv")) if s.split == "cal"]
    sensitivity = Reading.of(bundle.manifest.calibration).sensitivity
    request = json_io.digest([sensitivity, bundle.manifest.malignant])
    made_from = {"asked": request, **{entry.path: entry.sha256 for entry in (*entries, bundle.entries()[MODEL])}}
    missing = [entry.path for entry in entries if entry.path not in bundle.manifest.thresholds]
    if not missing and bundle.is_current("thresholds", made_from):
        return bundle
    if images is None or not images.exists() or not cal:
        names, folder = ", ".join(missing) or "none changed", images or "no --data DIR"
        note(f"thresholds: images of the cal split not found ({folder}); using the threshold of {MODEL} for: {names}")
        return bundle
    note(f"thresholds: {len(entries)} files, fitted to {len(cal)} images of the cal split")
    file_scores = dict(known or {})
    others = [bundle.file(entry.path) for entry in entries if entry.path not in file_scores]
    pixels = load_prepared(images, cal if others else [], bundle.manifest.preprocess)
    for path in others:
        runtime = plugins.judge_for(path)
        try_file(path, runtime, bundle.entries()[path.name].sha256)
        file_scores[path.name] = scores(path, runtime, pixels, bundle.manifest.malignant)
    malignant = np.isin([bundle.manifest.labels.index(s.label) for s in cal], bundle.manifest.malignant)
    chosen = {}
    for entry in entries:
        try:
            chosen[entry.path] = threshold(file_scores[entry.path], malignant, sensitivity)
        except GateError as error:
            raise GateError(error.what, where=entry.path) from None
    with bundle.stage("thresholds", f"skinedge {__version__}", made_from) as stage:
        files = {name: _document(limit, file_scores[name], malignant) for name, limit in chosen.items()}
        content = {"sensitivity": sensitivity, "images": len(cal), "malignant": int(malignant.sum()), "files": files}
        model = {"model_id": bundle.manifest.id, "model_sha256": bundle.entries()[MODEL].sha256}
        text = json_io.to_text(json_io.document("thresholds", content, **model))
        stage.path(REPORT).write_text(text, encoding="utf-8")
        stage.set(thresholds={"default": bundle.manifest.thresholds["default"], **chosen})
    return bundle.reload()


def scores(path: Path, runtime: plugins.Runtime, pixels: Pixels, malignant: tuple[int, ...]) -> Scores:
    """Run a file on all cores; return each image's malignant score, (N,) float64."""
    with captured_output("running the file", path.name):
        return malignant_score(ParallelSessions(runtime, path).run(pixels).probabilities, malignant)


def _document(limit: float, scores: Scores, malignant: NDArray[np.bool_]) -> dict[str, float]:
    sensitivity, specificity = sensitivity_specificity(malignant, scores >= limit)
    return {"threshold": limit, "cal_sensitivity": sensitivity, "cal_specificity": specificity}
