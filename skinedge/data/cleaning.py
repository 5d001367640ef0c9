"""Propose a cleaning plan: which images of a folder to leave out so that a model can be trained on the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.data.audit import AuditReport
from skinedge.data.dataset import Dataset, Sample
from skinedge.data.hashing import Inspection, content_hash
from skinedge.data.plan import KEEP, LEAVE_OUT, PlanRow
from skinedge.data.sources.groups import identities_of
from skinedge.data.split import conflicting_labels, scarce_classes

_PREFERRED = ("test", "val", "train", "")  # the official split whose images stay, if others contain them too


def propose(dataset: Dataset, inspection: Inspection, report: AuditReport) -> tuple[PlanRow, ...]:
    """Return a row for each image to leave out, and for each that stays in place of an omitted copy.

    Left out are images that no reader could use or that cannot be decoded; all images of a set with contradictory
    labels; all but one of a set of equal files with one label; images whose patient, lesion or look is in a preferred
    official split too; then every image of a class that is in fewer lesions (or patients) than there are splits.
    """
    rows: dict[str, PlanRow] = {}
    for problem in report.problems:
        for path in problem.images:
            rows.setdefault(path, _row(dataset.root, path, problem.what))
    for path, reason in inspection.unreadable:
        rows.setdefault(path, _row(dataset.root, path, f"unreadable: {reason}"))
    stages = (_conflicts, lambda samples: _leaks(samples, report), _copies, lambda samples: _scarce(samples, report))
    samples = [sample for sample in inspection.samples if sample.path not in rows]
    for stage in stages:
        for sample, reason, other in stage(samples):
            action = KEEP if reason == _KEPT else LEAVE_OUT
            if sample.path not in rows or rows[sample.path].action == KEEP:
                rows[sample.path] = PlanRow(action, sample.path, sample.label, reason, other, sample.sha256)
        samples = [sample for sample in samples if rows.get(sample.path, _STAYS).action == KEEP]
    return tuple(rows.values())


_SHARED = {"bytes": "content", "image": "ISIC image"}
_STAYS = PlanRow(KEEP, "")
_KEPT = "the copy that stays"


def _row(root: Path, path: str, reason: str) -> PlanRow:
    try:
        digest = content_hash(root, path)
    except DataError:
        digest = ""
    return PlanRow(LEAVE_OUT, path, "", reason, "", digest)


def _conflicts(samples: Sequence[Sample]) -> Iterator[tuple[Sample, str, str]]:
    for group in conflicting_labels(samples):
        labels = " and ".join(sorted({sample.label for sample in group}))
        for sample in group:
            other = next(other for other in group if other.label != sample.label)
            yield sample, f"the same image under two labels: {labels}", other.path


def _copies(samples: Sequence[Sample]) -> Iterator[tuple[Sample, str, str]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.sha256].append(sample)
    for group in groups.values():
        if len(group) > 1 and len({sample.label for sample in group}) == 1:
            first, *others = sorted(group, key=_preference)
            yield first, _KEPT, others[0].path
            yield from ((sample, "copy of the same file", first.path) for sample in others)


def _leaks(samples: Sequence[Sample], report: AuditReport) -> Iterator[tuple[Sample, str, str]]:
    """Yield the images whose patient, lesion, ISIC image or look is also in an official split that is preferred."""
    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        for identity in identities_of(sample):
            groups[identity].append(sample)
    of_path = {sample.path: sample for sample in samples}
    for pair in report.leaks:
        if pair.by == "look" and pair.left in of_path and pair.right in of_path:
            groups["look", pair.left + pair.right] = [of_path[pair.left], of_path[pair.right]]
    for (kind, _), group in groups.items():
        first = min(group, key=_preference)
        for sample in group:
            if sample.split != first.split:
                yield sample, f"its {_SHARED.get(kind, kind)} is in {first.split} too", first.path


def _scarce(samples: Sequence[Sample], report: AuditReport) -> Iterator[tuple[Sample, str, str]]:
    labels = sorted({sample.label for sample in samples})
    alike = [(pair.left, pair.right) for pair in report.near]
    scarce = scarce_classes(samples, labels, alike)
    unit = "patients" if report.patients else "lesions or distinct images"
    for sample in samples:
        if sample.label in scarce:
            count, need = scarce[sample.label]
            yield sample, f"class {sample.label} has {count} {unit}, but needs {need}", ""


def _preference(sample: Sample) -> tuple[int, str]:
    return _PREFERRED.index(sample.split), sample.path


def remaining_labels(samples: Iterable[Sample], rows: Sequence[PlanRow]) -> set[str]:
    """Return the classes that have an image left after the plan."""
    omitted = {row.image for row in rows if row.action == LEAVE_OUT}
    return {sample.label for sample in samples if sample.path not in omitted}
