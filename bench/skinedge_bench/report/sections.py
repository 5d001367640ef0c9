"""The whole report, in the order of reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from skinedge.run import model_card
from skinedge.run.manifest import MANIFEST
from skinedge.run.redaction import without_places
from skinedge.run.run_directory import Bundle
from skinedge_bench.evaluate.tables import Cell, Table, interval, number
from skinedge_bench.report import accuracy, charts, latency, parity, precision_search
from skinedge_bench.report.content import Block, Card, Charts, Missing, Pictures, Report, Section, Text, Tile, Tiles
from skinedge_bench.report.sources import LATENCY, PARITY, TRAINING, Sources, is_valid


def build(sources: Sources, notice: str, examples: Pictures | None) -> Report:
    """examples: pictures of patients, None unless they were asked for.

    Raises: BundleError naming the document that is not as its stage writes it.
    """
    root = sources.bundle.root
    with is_valid(root / MANIFEST):
        first = facts(sources.bundle)
    with is_valid(root / TRAINING):
        trained = training(sources)
    with is_valid(sources.evaluated_in):
        judged = (accuracy.accuracy(sources), accuracy.subgroups(sources))
        glance = tuple(accuracy_tiles(sources))
    with is_valid(root / PARITY):
        compared, card = parity.parity(sources), model(sources)
        glance += tuple(parity_tiles(sources))
    with is_valid(root / LATENCY):
        timed = latency.latency(sources)
        glance += tuple(latency_tiles(sources))
    shown = (Section("Examples", (Text(EXAMPLES), examples)),) if examples else ()
    summary = Section("Summary", (Tiles(glance), *first))
    sections = (summary, *judged, *shown, precision_search.precision_search(sources), compared, timed, trained, card)
    known = (*((PATIENTS,) if examples else ()), *warnings(sources))
    return Report(sources.bundle.manifest.name, notice, known, sections)


EXAMPLES = (
    "Of each class, the test image that the network was surest of and right about, and the one it was surest of and "
    "wrong about. Colours show where it found evidence for its answer, not whether it is right."
)


PATIENTS = "This page holds PATIENTS' IMAGES: it must not travel further than they may."


def warnings(sources: Sources) -> Iterator[str]:
    """What must be known before any figure."""
    if sources.bundle.manifest.synthetic:
        yield "Trained on SYNTHETIC drawings: its figures say nothing about skin."
    said = sources.evaluation
    if said is not None and said["contaminated"]:
        yield f"CONTAMINATED: the model was trained on {said['contaminated']} of the judged images or their lesions."
    if sources.parity is not None and not sources.parity["passed"]:
        yield "A gate failed: at least one file does not say what the network in PyTorch says."


def accuracy_tiles(sources: Sources) -> Iterator[Tile]:
    """How right it is."""
    said = sources.evaluation
    if said is None:
        return
    bounds, malignant = said["intervals"], said["malignant"]
    between = interval(bounds["balanced_accuracy"])
    yield Tile("Balanced accuracy", number(said["balanced_accuracy"], 3), f"{said['file']}; 95 % {between or '-'}")
    yield Tile("Macro AUC", number(said["macro_auc"], 3), f"uniform prior; 95 % {interval(bounds['macro_auc']) or '-'}")
    for title, name in (("Malignant flagged", "sensitivity"), ("Benign not flagged", "specificity")):
        if counts := malignant[f"{name}_counts"]:
            between = interval(malignant[f"{name}_wilson"])
            yield Tile(title, number(malignant[name], 3), f"{counts[0]} of {counts[1]}; 95 % {between}")


def parity_tiles(sources: Sources) -> Iterator[Tile]:
    """Whether the default file says what the network says."""
    name = sources.bundle.manifest.default_file
    said = (sources.parity or {"files": {}})["files"].get(name)
    if said is None:
        return
    if found := said["metrics"]:
        between = interval((found["agreement_low"], found["agreement_high"]))
        yield Tile("Same answer as PyTorch", number(found["agreement"], 3), f"{name}; 95 % {between}")
    yield Tile("Verdict", parity.verdict_of(said), f"{len(said['gates'])} gates of {name}")


def latency_tiles(sources: Sources) -> Iterator[Tile]:
    """The default file's fastest row, and its size."""
    name, said = sources.bundle.manifest.default_file, sources.latency or {"rows": []}
    rows = [row for row in said["rows"] if row["file"] == name and row["p50_ms"] is not None]
    rows = [row for row in rows if not sources.made_again(row["file"], row["sha256"])]
    if rows:
        best = min(rows, key=lambda row: row["p50_ms"])
        threads = "1 thread" if best["threads"] == 1 else f"{best['threads']} threads"
        gain = f"; {best['ratio_to_fp32']:.1f} x fp32" if best["ratio_to_fp32"] else ""
        where = f"p50, {best['runtime']}, {threads}, {said['device']['cpu']}{gain}"
        yield Tile("Latency", f"{best['p50_ms']:.2f} ms", where)
    entry = sources.bundle.entries().get(name or "")
    if entry is not None:
        yield Tile("Size", f"{entry.size / 1e6:.2f} MB", entry.path)


def facts(bundle: Bundle) -> tuple[Block, ...]:
    """What the model is, and how many images of each class it was made with."""
    manifest = bundle.manifest
    data, size = manifest.training["data"], manifest.preprocess.size
    classes = ", ".join(f"{label} ({manifest.taxonomy[label]})" for label in manifest.labels)
    rows: list[list[Cell]] = [
        ["network", f"{manifest.training['backbone']}, {size} x {size} px"],
        ["run", f"{manifest.id}, {manifest.created_at[:10]}"],
        ["images", f"{data['kind']} ({manifest.domain})"],
        ["classes", classes],
        ["default file", manifest.default_file],
        ["licence of the weights", manifest.license or "not stated"],
    ]
    counts = data["counts"]
    splits: list[list[Cell]] = [
        [split, *(str(of.get(label, 0)) for label in manifest.labels), str(sum(of.values()))]
        for split, of in counts.items()
    ]
    return Table("The model", ("property", "value"), rows), Table("Images", ("split", *manifest.labels, "all"), splits)


def training(sources: Sources) -> Section:
    """Curves over the epochs, and their numbers."""
    said = sources.training
    if said is None:
        return Section("Training", (Missing("Not reported", "skinedge train --data DIR"),))
    history, best = said["history"], said.get("best_epoch")
    keys = ("epoch", "train_loss", "val_balanced_accuracy", "val_macro_auc", "images_per_second")
    digits = (0, 4, 4, 4, 1)
    rows: list[list[Cell]] = [
        [number(row[key], places) for key, places in zip(keys, digits, strict=True)] for row in history
    ]
    table = Table("Every epoch", tuple(key.replace("_", " ").replace("val ", "validation ") for key in keys), rows)

    def series(name: str, key: str) -> charts.Series | None:
        points = tuple((float(row["epoch"]), float(row[key])) for row in history if row[key] is not None)
        return charts.Series(name, points) if points else None

    pairs = {
        "Training loss": [series("loss", "train_loss")],
        "Validation": [series("macro AUC", "val_macro_auc"), series("bal. accuracy", "val_balanced_accuracy")],
    }
    drawn = {title: [each for each in found if each] for title, found in pairs.items()}
    shown = tuple(charts.curves(title, found, best) for title, found in drawn.items() if found)
    return Section("Training", ((Charts(shown),) if shown else ()) + (table,))


def model(sources: Sources) -> Section:
    """What the model is for and what it is not, in the words of its card."""
    bundle = sources.bundle
    manifest = replace(bundle.manifest, training=without_places(bundle.manifest.training))
    known = model_card.Facts(manifest, tuple(bundle.model_files()), sources.parity or {}, sources.latency)
    parts = {
        "Intended use": model_card.intended_use(manifest.domain),
        "Limits": model_card.limits(manifest),
        "Probabilities and thresholds": model_card.thresholds(known),
        "How it was trained": model_card.training(manifest),
        "Licence": model_card.license_text(manifest).strip(),
    }
    return Section("Model card", tuple(Card(f"### {title}\n\n{text}") for title, text in parts.items()))
