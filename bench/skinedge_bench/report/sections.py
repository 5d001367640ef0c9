"""The sections of a report, in the order of reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from skinedge.core.taxonomy import full_name
from skinedge.run import model_card
from skinedge.run.redaction import without_places
from skinedge.run.run_directory import Bundle
from skinedge.stats.verdicts import counted_gates, word
from skinedge_bench.evaluate.tables import Cell, Table, interval, number
from skinedge_bench.report import accuracy, latency, parity, precision_search
from skinedge_bench.report.content import Block, Card, Report, Section, Text, Tile, Tiles
from skinedge_bench.report.examples import Gallery
from skinedge_bench.report.mistakes import mistakes_section, named
from skinedge_bench.report.sources import Sources
from skinedge_bench.report.training import training

EXAMPLES = (
    "For each class, the test image with the most confident correct prediction, and the one with the most confident "
    "wrong prediction. Colours show where the network found evidence for its prediction, not whether it is correct."
)
COARSE = (
    "A map has few cells (7 x 7 for 224 pixels), and each of them sees far more of the image than it covers: an edge "
    "of the colours is not the edge of the lesion."
)
FEW = 30  # images of a class: 95 % of Wilson's intervals are then up to 0.34 wide
PATIENTS = "This page contains PATIENTS' IMAGES: share it only as far as the images themselves may be shared."


def build_report(sources: Sources, notice: str, images: Gallery | None) -> Report:
    """Arrange a run's documents into a report. images: patients' images, None unless they were asked for."""
    notices = (*((PATIENTS,) if images else ()), *warnings(sources))
    return Report(sources.bundle.manifest.name, notice, notices, _clinical(sources, images), _technical(sources))


def _clinical(sources: Sources, images: Gallery | None) -> tuple[Section, ...]:
    """Arrange what a reader without knowledge of computing needs."""
    mistakes = sources.mistakes
    return (
        Section("Summary", (*summary(sources), Tiles(tuple(accuracy_tiles(sources))))),
        accuracy.accuracy(sources),
        *accuracy.decisions(sources),
        accuracy.subgroups(sources),
        *((mistakes_section(mistakes, images.mistakes if images else None, maps_notes(images)),) if mistakes else ()),
        *((Section("Examples", (Text(EXAMPLES), *maps_notes(images), images.examples)),) if images else ()),
        limits(sources),
    )


def _technical(sources: Sources) -> tuple[Section, ...]:
    """Arrange what concerns the files, their making and their speed."""
    tiles = (*parity_tiles(sources), *latency_tiles(sources))
    return (
        Section("Model and files", (*((Tiles(tiles),) if tiles else ()), *describe_model(sources.bundle))),
        *accuracy.class_metrics(sources),
        precision_search.precision_search(sources),
        parity.parity(sources),
        latency.latency(sources),
        training(sources),
        card(sources),
    )


def warnings(sources: Sources) -> Iterator[str]:
    """Yield what a reader must know before any figure."""
    if sources.bundle.manifest.synthetic:
        yield "Trained on SYNTHETIC drawings: its figures say nothing about skin."
    contaminated = sources.evaluation.figures.contaminated if sources.evaluation else 0
    if contaminated:
        yield f"CONTAMINATED: the model was trained on {contaminated} of the judged images or their lesions."
    if sources.parity is not None and any(file.worst == "fail" for file in sources.parity.files.values()):
        yield "A gate failed: the predictions of at least one file differ too much from the network's in PyTorch."


def summary(sources: Sources) -> Iterator[Text]:
    """Yield the evaluation in sentences, in one paragraph; none before `merge`."""
    if sources.evaluation is not None:
        yield Text(" ".join(accuracy.sentences(sources.evaluation.figures)))


def accuracy_tiles(sources: Sources) -> Iterator[Tile]:
    """Yield the headline figures of accuracy."""
    if sources.evaluation is None:
        return
    figures = sources.evaluation.figures
    malignant = figures.malignant
    for title, name, value, about in (
        ("Balanced accuracy", "balanced_accuracy", figures.balanced_accuracy, figures.file),
        ("Macro AUC", "macro_auc", figures.macro_auc, "uniform prior"),
    ):
        bounds = interval(accuracy.defined(figures.intervals.get(name)))
        yield Tile(title, number(value, 3), f"{about}; 95 % {bounds or '-'}")
    for title, value, counts, wilson in (
        ("Malignant flagged", malignant.sensitivity, malignant.sensitivity_counts, malignant.sensitivity_wilson),
        ("Benign not flagged", malignant.specificity, malignant.specificity_counts, malignant.specificity_wilson),
    ):
        if counts:
            bounds = interval(accuracy.defined(wilson))
            yield Tile(title, number(value, 3), f"{counts[0]} of {counts[1]}; 95 % {bounds or '-'}")


def parity_tiles(sources: Sources) -> Iterator[Tile]:
    """Yield the agreement of the default file with PyTorch, and its verdict."""
    name = sources.bundle.manifest.default_file
    file = sources.parity.files.get(name) if sources.parity and name else None
    if file is None:
        return
    if (figures := file.metrics) is not None:
        bounds = interval(accuracy.defined((figures.agreement_low, figures.agreement_high)))
        yield Tile("Same answer as PyTorch", number(figures.agreement, 3), f"{name}; 95 % {bounds or '-'}")
    counts = counted_gates((gate.verdict for gate in file.gates), "of verify")
    yield Tile("Verdict", word(file.worst), f"{name}: {counts}")


def latency_tiles(sources: Sources) -> Iterator[Tile]:
    """Yield the latency of the default file in its fastest runtime, and its size."""
    name, report = sources.bundle.manifest.default_file, sources.latency
    rows = [row for row in report.rows if row.file == name] if report else []
    timed = [(row.p50_ms, row) for row in rows if row.p50_ms is not None]
    current = [(ms, row) for ms, row in timed if not sources.is_outdated(row.file, row.sha256)]
    if current and report:
        ms, best = min(current, key=lambda pair: pair[0])
        threads = "1 thread" if best.threads == 1 else f"{best.threads} threads"
        gain = f"; {best.ratio_to_fp32:.1f} x fp32" if best.ratio_to_fp32 else ""
        yield Tile("Latency", f"{ms:.2f} ms", f"p50, {best.runtime}, {threads}, {report.device.cpu}{gain}")
    entry = sources.bundle.entries().get(name or "")
    if entry is not None:
        yield Tile("Size", f"{entry.size / 1e6:.2f} MB", entry.path)


def describe_model(bundle: Bundle) -> tuple[Block, ...]:
    """Tabulate the model's properties, and its images by split and class."""
    manifest = bundle.manifest
    data, size = manifest.training["data"], manifest.preprocess.size
    classes = ", ".join(f"{full_name(label)} ({label}, {manifest.taxonomy[label]})" for label in manifest.labels)
    rows: list[list[Cell]] = [
        ["network", f"{manifest.training['backbone']}, {size} x {size} px"],
        ["run", f"{manifest.id}, {manifest.created_at[:10]}"],
        ["images", f"{data['kind']} ({manifest.domain})"],
        ["classes", classes],
        ["default file", manifest.default_file],
        ["licence of the weights", manifest.license or "not stated"],
    ]
    splits: list[list[Cell]] = [
        [split, *(str(counts.get(label, 0)) for label in manifest.labels), str(sum(counts.values()))]
        for split, counts in data["counts"].items()
    ]
    return Table("The model", ("property", "value"), rows), Table("Images", ("split", *manifest.labels, "all"), splits)


def maps_notes(images: Gallery | None) -> tuple[Text, ...]:
    """Return what to know about the heatmaps, to stand beside them; nothing without images."""
    return () if images is None else tuple(map(Text, filter(None, (COARSE, images.warning))))


def limits(sources: Sources) -> Section:
    """Say what the figures do not cover: use, domain, classes with few images, and the card's limits."""
    manifest = sources.bundle.manifest
    few = tuple(_few(sources))
    return Section(
        "Limits",
        (
            Text("A research tool, not a medical device: no output of it is a diagnosis."),
            *few,
            Card(f"### Intended use\n\n{model_card.intended_use(manifest.domain)}"),
            Card(f"### Limits\n\n{model_card.limits(manifest)}"),
        ),
    )


def _few(sources: Sources) -> Iterator[Text]:
    """Name the classes with so few evaluated images that their figures are uncertain."""
    if sources.evaluation is None:
        return
    counts = {label: figures.support for label, figures in sources.evaluation.figures.per_class.items()}
    few = [f"{named(label)}: {count}" for label, count in counts.items() if count < FEW]
    if few:
        yield Text(f"Few images, so uncertain figures (fewer than {FEW} of the class): {', '.join(few)}.")


def card(sources: Sources) -> Section:
    """Quote the model card on thresholds, training and licence; `limits` quotes the rest."""
    bundle = sources.bundle
    manifest = replace(bundle.manifest, training=without_places(bundle.manifest.training))
    facts = model_card.Facts(manifest, tuple(bundle.model_files()), sources.parity, sources.latency)
    parts = {
        "Probabilities and thresholds": model_card.thresholds(facts),
        "How it was trained": model_card.training(manifest),
        "Licence": model_card.license_text(manifest).strip(),
    }
    return Section("Model card", tuple(Card(f"### {title}\n\n{text}") for title, text in parts.items()))
