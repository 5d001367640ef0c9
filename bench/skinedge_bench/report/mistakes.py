"""The report's section on mistakes: wrong predictions of the default file, ordered by the harm they could do.

`verify` records the file's answer for each test image whose class or flag differs from the merged network's; for all
others, both are the network's. Without such a record the mistakes are the network's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinedge.core.taxonomy import full_name
from skinedge.run.class_order import Reference
from skinedge.run.manifest import Manifest
from skinedge.run.report_schemas import Change, FileVerdict
from skinedge.stats import metrics
from skinedge_bench.evaluate.tables import Cell, Table, number
from skinedge_bench.report.content import Missing, Pictures, Section, Text

KINDS = (
    "melanoma called benign",
    "other malignant lesion called benign",
    "benign lesion called malignant",
    "malignant lesion taken for another malignant class",
    "benign lesion taken for another benign class",
)
LISTED = 20  # rows of one kind in the table
NETWORK = "the merged network in PyTorch"
ABOUT = (
    "Images of the test split whose most probable class is wrong, the most harmful kind first. 'Called' means that "
    "class; an image of a malignant lesion may still be flagged by its malignant score."
)
DRAWN = "The answers under them are those of the model that drew the heatmaps."
OF_NETWORK = (
    "Judged: the merged network in PyTorch, from its stored logits. The answers of an exported file to these images "
    "were not recorded (skinedge verify), and may differ."
)


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction.

    index: of the image in reference.npz; kind: index of KINDS; truth, answer: labels; probability: of the answer;
    score: malignant score; flagged: None without a threshold.
    """

    index: int
    image: str
    kind: int
    truth: str
    answer: str
    probability: float
    score: float
    flagged: bool | None


@dataclass(frozen=True)
class Judged:
    """Mistakes of one model. model: its name; how: what was judged; listed: by harm; images: all that were judged."""

    model: str
    how: str
    listed: Sequence[Mistake]
    images: int


def judge(manifest: Manifest, reference: Reference, verdict: FileVerdict | None) -> Judged:
    """Judge the default file, or the merged network.

    verdict: of the default file as it is now, None if there is none; without figures, the network is judged.
    """
    count = len(reference.labels)
    if verdict is None or verdict.metrics is None or manifest.default_file is None:
        return Judged(NETWORK, OF_NETWORK, find_mistakes(manifest, reference), count)
    name, changed = manifest.default_file, verdict.changed
    threshold = manifest.threshold(name)
    at = "" if threshold is None else f" at its threshold, {threshold:.3f}"
    how = (
        f"Judged: {name}{at}, from the record of skinedge verify. Probabilities and scores are the file's for the "
        f"{len(changed):,} of {count:,} images whose class or flag differs from the network's in PyTorch, and the "
        "network's, close to the file's, for all others."
    )
    return Judged(name, how, find_mistakes(manifest, reference, changed), count)


def find_mistakes(manifest: Manifest, reference: Reference, changed: Sequence[Change] = ()) -> tuple[Mistake, ...]:
    """Return all mistakes by kind; within one, missed lesions without a flag and flagged false alarms come first.

    changed: the images that a file answers differently; they replace the network's answers.
    """
    probabilities = metrics.softmax(reference.logits)
    scores = metrics.malignant_score(probabilities, manifest.malignant)
    threshold, mistakes = manifest.thresholds.get("default"), []
    of_file = {change.image: change for change in changed}
    for index, image in enumerate(reference.ids):
        answer, score = int(probabilities[index].argmax()), float(scores[index])
        probability = float(probabilities[index, answer])
        flagged = None if threshold is None else score >= threshold
        if (change := of_file.get(image)) is not None:
            answer, probability = manifest.labels.index(change.file), change.file_probability
            score = change.file_malignant
            flagged = flagged if change.verdict is None or flagged is None else not flagged
        truth = int(reference.labels[index])
        if answer != truth:
            kind, labels = _kind(manifest, truth, answer), manifest.labels
            mistakes.append(Mistake(index, image, kind, labels[truth], labels[answer], probability, score, flagged))
    return tuple(sorted(mistakes, key=_harm))


def mistakes_section(judged: Judged, pictures: Pictures | None, notes: tuple[Text, ...]) -> Section:
    """Tabulate the mistakes.

    pictures: of the first mistakes, None unless asked for; notes: on their heatmaps.
    """
    title, mistakes, images = "Mistakes", judged.listed, judged.images
    if not mistakes:
        right = f"The most probable class is right for all {images:,} test images."
        return Section(title, (Text(right), Text(judged.how)))
    shown: tuple[Text | Missing | Pictures, ...] = (
        (Missing("Their images and heatmaps (patients' images)", "skinedge report RUN --with-images"),)
        if pictures is None
        else (Text(f"The first {len(pictures.pictures)} of the list below, with heatmaps. {DRAWN}"), *notes, pictures)
    )
    tables = _counts(judged), _list(judged)
    return Section(title, (Text(ABOUT), Text(judged.how), tables[0], *shown, tables[1]))


def named(label: str) -> str:
    """Return 'melanoma (mel)'; a label without another name as it is."""
    name = full_name(label)
    return label if name == label else f"{name} ({label})"


def _kind(manifest: Manifest, truth: int, answer: int) -> int:
    malignant = manifest.malignant
    if truth in malignant and answer not in malignant:
        return 0 if truth == manifest.melanoma_index else 1
    if truth not in malignant:
        return 2 if answer in malignant else 4
    return 3


def _harm(mistake: Mistake) -> tuple[int, bool, float, int]:
    """Order by kind; a missed lesion by its score, the lowest first, a false alarm the highest first."""
    alarm = mistake.kind in (2, 4)
    return mistake.kind, bool(mistake.flagged) != alarm, -mistake.score if alarm else mistake.score, mistake.index


def _counts(judged: Judged) -> Table:
    mistakes, images = judged.listed, judged.images
    rows: list[list[Cell]] = []
    for kind, name in enumerate(KINDS):
        own = [mistake for mistake in mistakes if mistake.kind == kind]
        flags = [mistake.flagged for mistake in own]
        flagged = None if None in flags else sum(map(bool, flags))
        rows.append([name, len(own), f"{len(own) / images:.1%}", flagged])
    return Table(
        f"Mistakes of {judged.model} by kind ({len(mistakes):,} of {images:,} images)",
        ("kind", "images", "share", "flagged"),
        rows,
    )


def _list(judged: Judged) -> Table:
    mistakes = judged.listed
    rows: list[list[Cell]] = []
    for kind, name in enumerate(KINDS):
        own = [mistake for mistake in mistakes if mistake.kind == kind]
        rows += [_row(name, mistake) for mistake in own[:LISTED]]
    cut = len(rows) < len(mistakes)
    limit = f" (at most {LISTED} of a kind)" if cut else ""
    title = f"Mistakes of {judged.model}, the most harmful first{limit}"
    columns = ("image", "kind", "truth", "called", "probability", "malignant score", "flagged")
    return Table(title, columns, rows)


def _row(kind: str, mistake: Mistake) -> list[Cell]:
    flagged = None if mistake.flagged is None else "yes" if mistake.flagged else "no"
    figures = (number(mistake.probability, 3), number(mistake.score, 3))
    return [mistake.image, kind, named(mistake.truth), named(mistake.answer), *figures, flagged]
