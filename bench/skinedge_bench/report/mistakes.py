"""The report's section on mistakes: wrong predictions of the merged network, ordered by the harm they could do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinedge.core.taxonomy import full_name
from skinedge.run.class_order import Reference
from skinedge.run.manifest import Manifest
from skinedge.run.report_schemas import Metrics
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
ABOUT = (
    "These are mistakes of the merged network in PyTorch on the test split, judged from its stored logits and at its "
    "own threshold: no outputs of single images are stored for the exported files. {file} Listed are images whose most "
    "probable class is wrong, the most harmful kind first. 'Called' means that class; an image of a malignant lesion "
    "may still be flagged by its malignant score."
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
class NetworkMistakes:
    """Mistakes of the merged network. listed: by harm; images: number of judged images; file: a sentence on how far the
    default file's answers are the network's.
    """

    listed: Sequence[Mistake]
    images: int
    file: str


def compare_with(file: str | None, metrics: Metrics | None) -> str:
    """Say for how many test images a file and the network have the same class. metrics: of the file, from `verify`."""
    if file is None:
        return "The run has no exported file yet."
    if metrics is None or metrics.agreement is None:
        return f"How many answers of {file} differ was not measured."
    same = round(metrics.agreement * metrics.n)
    return f"{file} has the same most probable class for {same:,} of {metrics.n:,} images, so its mistakes may differ."


def find_mistakes(manifest: Manifest, reference: Reference) -> tuple[Mistake, ...]:
    """Return all mistakes by kind; within one, missed lesions without a flag and flagged false alarms come first."""
    probabilities = metrics.softmax(reference.logits)
    scores = metrics.malignant_score(probabilities, manifest.malignant)
    threshold, mistakes = manifest.thresholds.get("default"), []
    for index in (probabilities.argmax(axis=1) != reference.labels).nonzero()[0].tolist():
        truth, answer = int(reference.labels[index]), int(probabilities[index].argmax())
        score = float(scores[index])
        mistakes.append(
            Mistake(
                index=index,
                image=reference.ids[index],
                kind=_kind(manifest, truth, answer),
                truth=manifest.labels[truth],
                answer=manifest.labels[answer],
                probability=float(probabilities[index, answer]),
                score=score,
                flagged=None if threshold is None else score >= threshold,
            )
        )
    return tuple(sorted(mistakes, key=_harm))


def mistakes_section(network: NetworkMistakes, pictures: Pictures | None, notes: tuple[Text, ...]) -> Section:
    """Tabulate the mistakes.

    pictures: of the first mistakes, None unless asked for; notes: on their heatmaps.
    """
    title, mistakes, images = "Mistakes", network.listed, network.images
    if not mistakes:
        right = f"The most probable class of the merged network in PyTorch is right for all {images:,} test images."
        return Section(title, (Text(f"{right} {network.file}"),))
    shown: tuple[Text | Missing | Pictures, ...] = (
        (Missing("Their images and heatmaps (patients' images)", "skinedge report RUN --with-images"),)
        if pictures is None
        else (Text(f"The first {len(pictures.pictures)} of the list below, with heatmaps."), *notes, pictures)
    )
    return Section(title, (Text(ABOUT.format(file=network.file)), _counts(mistakes, images), *shown, _list(mistakes)))


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


def _counts(mistakes: Sequence[Mistake], images: int) -> Table:
    rows: list[list[Cell]] = []
    for kind, name in enumerate(KINDS):
        own = [mistake for mistake in mistakes if mistake.kind == kind]
        flags = [mistake.flagged for mistake in own]
        flagged = None if None in flags else sum(map(bool, flags))
        rows.append([name, len(own), f"{len(own) / images:.1%}", flagged])
    return Table(
        f"Mistakes of the network in PyTorch by kind ({len(mistakes)} of {images} images)",
        ("kind", "images", "share", "flagged"),
        rows,
    )


def _list(mistakes: Sequence[Mistake]) -> Table:
    rows: list[list[Cell]] = []
    for kind, name in enumerate(KINDS):
        own = [mistake for mistake in mistakes if mistake.kind == kind]
        rows += [_row(name, mistake) for mistake in own[:LISTED]]
    cut = len(rows) < len(mistakes)
    limit = f" (at most {LISTED} of a kind)" if cut else ""
    title = f"Mistakes of the network in PyTorch, the most harmful first{limit}"
    columns = ("image", "kind", "truth", "called", "probability", "malignant score", "flagged")
    return Table(title, columns, rows)


def _row(kind: str, mistake: Mistake) -> list[Cell]:
    flagged = None if mistake.flagged is None else "yes" if mistake.flagged else "no"
    figures = (number(mistake.probability, 3), number(mistake.score, 3))
    return [mistake.image, kind, named(mistake.truth), named(mistake.answer), *figures, flagged]
