"""skinedge data synth | check | info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import data_app
from skinedge.cli.common import JsonOption, emit_json, note, say, table

if TYPE_CHECKING:
    from skinedge.data.audit import AuditReport, DuplicatePair
    from skinedge.data.dataset import Dataset
    from skinedge.data.hashing import Inspection

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of labelled images (or a MedMNIST .npz).")]
SHOWN = 5


@data_app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.")],
    count: Annotated[int, typer.Option(help="Number of images, shared evenly by the 7 classes.")] = 420,
    size: Annotated[int, typer.Option(metavar="PX", help="Side of the square images, in pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same images.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw synthetic images of seven classes. For demos and tests, never for judging a model."""
    from skinedge.data.synthetic import LABELS, MARKER, write_dataset

    lesions = write_dataset(out, count, size, seed)
    if as_json:
        found = {"out": str(out), "images": count, "lesions": lesions, "classes": list(LABELS), "synthetic": True}
        emit_json("data.synth", found, model_id=None, model_sha256=None)
    else:
        say(f"{count} synthetic images of {lesions} lesions in {out} ({MARKER} says so)")


@data_app.command()
def info(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """What a folder holds. Kind, classes and their groups, lesions, sizes."""
    from dataclasses import asdict

    from skinedge.data.audit import info as summarize
    from skinedge.data.readers import read

    found = summarize(read(folder))
    if as_json:
        classes = {label: {"images": n, "group": group} for label, (n, group) in found.classes.items()}
        emit_json("data.info", {**asdict(found), "classes": classes}, model_id=None, model_sha256=None)
        return
    rows = [(label, n, group or "unknown: map it in TOML") for label, (n, group) in found.classes.items()]
    table(found.kind, ("class", "images", "group"), rows)
    lesions = "lesions not known" if found.lesions is None else f"{found.lesions} lesions"
    domain = found.domain.upper() if found.synthetic else found.domain
    say(f"{folder}: {found.images} images, {lesions}, domain {domain}")
    say("sizes: " + ", ".join(f"{size} ({n})" for size, n in list(found.sizes.items())[:SHOWN]))
    if found.splits:
        say("official splits: " + ", ".join(f"{name} {n}" for name, n in found.splits.items()))


@data_app.command()
def check(
    folder: FolderArgument,
    against: Annotated[Path | None, typer.Option(metavar="DIR2", help="Also find images that DIR2 has too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Unreadable images, duplicates and leaks. Within a folder, between its splits, or between two.

    Exits with 1 for an unreadable image, one image under two labels, a leak between official splits, or, with
    --against, any overlap.
    """
    from dataclasses import asdict

    from skinedge.data.audit import audit as judge
    from skinedge.data.audit import overlaps

    dataset, inspection = _inspect(folder)
    found = judge(dataset, inspection)
    shared = None if against is None else overlaps(inspection.samples, _inspect(against)[1].samples)
    passed = found.passed and not shared
    if as_json:
        pairs = None if shared is None else [asdict(pair) for pair in shared]
        document = {"passed": passed, **asdict(found), "against": str(against) if against else None, "overlaps": pairs}
        emit_json("data.check", document, model_id=None, model_sha256=None)
    else:
        _show(folder, found)
        if shared is not None:
            _list(f"images that are also in {against}", [_line(pair) for pair in shared])
        say("passed" if passed else "FAILED: repair the folder (or its splits) before training on it")
    if not passed:
        raise typer.Exit(1)


def _show(folder: Path, found: AuditReport) -> None:
    table(found.kind, ("class", "images"), list(found.counts.items()))
    say(f"{sum(found.counts.values())} images, " + (f"{found.lesions} lesions" if found.lesions else "lesions unknown"))
    _list("unreadable images", [f"{path}: {reason}" for path, reason in found.unreadable])
    _list("images under two labels", [" = ".join(paths) for paths in found.two_labels])
    _list("leaks between the folder's splits", [_line(pair) for pair in found.leaks])
    _list("sets of exact duplicates", [" = ".join(paths) for paths in found.exact])
    _list("pairs of near duplicates (of different lesions, as far as known)", [_line(pair) for pair in found.near])


def _list(what: str, lines: list[str]) -> None:
    say(f"{len(lines)} {what}")
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
