"""skinedge data synth, check and info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import data_app
from skinedge.cli.common import emit_json, note, say, table
from skinedge.cli.options import JsonOption

if TYPE_CHECKING:
    from skinedge.data.audit import AuditReport, DuplicatePair
    from skinedge.data.dataset import Dataset
    from skinedge.data.hashing import Inspection

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of labelled images (or a MedMNIST .npz).")]
SHOWN = 5


@data_app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create.")],
    count: Annotated[int, typer.Option(metavar="N", help="Number of images, divided evenly among 7 classes.")] = 420,
    size: Annotated[int, typer.Option(metavar="PX", help="Side length of the square images, in pixels.")] = 224,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the images.")] = 0,
    json: JsonOption = False,
) -> None:
    """Generate synthetic images of seven classes.

    For demos and tests; never for evaluating a model.
    """
    from skinedge.data.synthetic import LABELS, MARKER, write_dataset

    lesions = write_dataset(out, count, size, seed)
    if json:
        document = {"out": str(out), "images": count, "lesions": lesions, "classes": list(LABELS), "synthetic": True}
        emit_json("data.synth", document, model_id=None, model_sha256=None)
    else:
        say(f"{count} synthetic images of {lesions} lesions in {out} (marked by {MARKER})")


@data_app.command()
def info(folder: FolderArgument, json: JsonOption = False) -> None:
    """Summarize a folder: layout, classes and their groups, lesions, image sizes."""
    from dataclasses import asdict

    from skinedge.data.audit import info as summarize
    from skinedge.data.readers import read

    summary = summarize(read(folder))
    if json:
        classes = {label: {"images": n, "group": group} for label, (n, group) in summary.classes.items()}
        emit_json("data.info", {**asdict(summary), "classes": classes}, model_id=None, model_sha256=None)
        return
    rows = [(label, n, group or "unknown: map it in TOML") for label, (n, group) in summary.classes.items()]
    table(summary.kind, ("class", "images", "group"), rows)
    lesions = "lesions not known" if summary.lesions is None else f"{summary.lesions} lesions"
    domain = summary.domain.upper() if summary.synthetic else summary.domain
    say(f"{folder}: {summary.images} images, {lesions}, domain {domain}")
    say("sizes: " + ", ".join(f"{size} ({n})" for size, n in list(summary.sizes.items())[:SHOWN]))
    if summary.splits:
        say("official splits: " + ", ".join(f"{name} {n}" for name, n in summary.splits.items()))


@data_app.command()
def check(
    folder: FolderArgument,
    against: Annotated[Path | None, typer.Option(metavar="DIR2", help="Also find images that DIR2 contains.")] = None,
    json: JsonOption = False,
) -> None:
    """Find unreadable images, duplicates and leaks.

    Searches one folder, its official splits, and with --against a second folder. Exits with 1 for an unreadable image,
    an image under two labels, a leak between official splits, or any overlap with DIR2.
    """
    from dataclasses import asdict

    from skinedge.data.audit import audit, overlaps

    dataset, inspection = _inspect(folder)
    report = audit(dataset, inspection)
    shared = None if against is None else overlaps(inspection.samples, _inspect(against)[1].samples)
    passed = report.passed and not shared
    if json:
        pairs = None if shared is None else [asdict(pair) for pair in shared]
        document = {"passed": passed, **asdict(report), "against": str(against) if against else None, "overlaps": pairs}
        emit_json("data.check", document, model_id=None, model_sha256=None)
    else:
        _show(folder, report)
        if shared is not None:
            _list(f"images also in {against}", [_line(pair) for pair in shared])
        say("passed" if passed else "FAILED: repair the folder (or its splits) before training on it")
        _show_refusals(report)
    if not passed:
        raise typer.Exit(1)


def _show(folder: Path, report: AuditReport) -> None:
    table(report.kind, ("class", "images"), list(report.counts.items()))
    say(
        f"{sum(report.counts.values())} images, "
        + (f"{report.lesions} lesions" if report.lesions else "lesions unknown")
        + (f", {report.patients} patients" if report.patients else "")
    )
    _list("unreadable images", [f"{path}: {reason}" for path, reason in report.unreadable])
    _list("images under two labels", [" = ".join(paths) for paths in report.two_labels])
    _list("leaks between the folder's splits", [_line(pair) for pair in report.leaks])
    _list("sets of exact duplicates", [" = ".join(paths) for paths in report.exact])
    _list("pairs of near duplicates (of different lesions, as far as known)", [_line(pair) for pair in report.near])


def _show_refusals(report: AuditReport) -> None:
    """Print what training would refuse in a folder that is otherwise in order."""
    from skinedge.core.taxonomy import block

    for label, (count, splits) in report.scarce.items():
        unit = "patients" if report.patients else "lesions (or distinct images)"
        say(f"train refuses class '{label}': {count} {unit}, but needs at least {splits}, one for each split")
    if report.unknown_classes:
        count = len(report.unknown_classes)
        say(f"train refuses {count} classes that are not in the table of skin conditions. Set each to benign,")
        say("premalignant, malignant or the name of a known condition in a TOML file given with --config:")
        for line in block(report.unknown_classes).splitlines():
            say(line)


def _list(title: str, lines: list[str]) -> None:
    say(f"{len(lines)} {title}")
    for line in lines[:SHOWN]:
        say(f"  {line}")
    if len(lines) > SHOWN:
        say("  ... (--json lists all)")


def _line(pair: DuplicatePair) -> str:
    return f"{pair.left} ~ {pair.right} ({pair.by}{f', {pair.distance} of 256 bits differ' if pair.distance else ''})"


def _inspect(folder: Path) -> tuple[Dataset, Inspection]:
    from skinedge.data.hashing import inspect_images
    from skinedge.data.readers import read

    dataset = read(folder)
    note(f"{folder}: {dataset.kind}, {len(dataset.samples)} images, {len(dataset.labels)} classes")
    return dataset, inspect_images(dataset)
