"""skinedge data synth, info, check and clean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import Program, app
from skinedge.cli.common import emit_json, note, say, table
from skinedge.cli.data_report import (
    SHOWN,
    line_of,
    list_cases,
    show,
    show_refusals,
    show_remedy,
    train_with,
    verdict,
)
from skinedge.cli.option_groups import expand_groups
from skinedge.cli.options import FolderOptions, JsonOption, TableOptions
from skinedge.core.errors import ConfigError

if TYPE_CHECKING:
    from skinedge.data.audit import AuditReport
    from skinedge.data.dataset import Dataset
    from skinedge.data.hashing import Inspection
    from skinedge.data.read_options import ReadOptions

data_app = Program(
    help="Generate, check and summarize folders of labelled images.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of labelled images (or a MedMNIST .npz).")]


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
@expand_groups
def info(folder: FolderArgument, options: FolderOptions, json: JsonOption = False) -> None:
    """Summarize a folder: layout, classes and their groups, lesions, image sizes."""
    from dataclasses import asdict

    from skinedge.data.audit import info as summarize
    from skinedge.data.readers import read
    from skinedge.data.split import unit_of

    dataset = read(folder, options.options())
    summary = summarize(dataset)
    if json:
        classes = {label: {"images": n, "group": group} for label, (n, group) in summary.classes.items()}
        emit_json("data.info", {**asdict(summary), "classes": classes}, model_id=None, model_sha256=None)
        return
    rows = [(label, n, group or "unknown: map it in TOML") for label, (n, group) in summary.classes.items()]
    table(summary.kind, ("class", "images", "group"), rows)
    domain = summary.domain.upper() if summary.synthetic else summary.domain
    say(f"{folder}: {summary.images} images, domain {domain}, split {unit_of(dataset.samples)}")
    say("sizes: " + ", ".join(f"{size} ({n})" for size, n in list(summary.sizes.items())[:SHOWN]))
    if summary.splits:
        say("official splits: " + ", ".join(f"{name} {n}" for name, n in summary.splits.items()))


@data_app.command()
@expand_groups
def check(
    folder: FolderArgument,
    options: FolderOptions,
    against: Annotated[Path | None, typer.Option(metavar="DIR2", help="Also find images that DIR2 contains.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Settings of the training, whose [taxonomy] names unknown classes."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List everything in a folder that training refuses, duplicates and leaks.

    Searches one folder, its official splits, and with --against a second folder. Exits with 1 if training with
    its defaults, and the [taxonomy] of --config, would refuse the folder; and for any overlap with DIR2.
    """
    from dataclasses import asdict

    from skinedge.data.audit import overlaps
    from skinedge.data.cleaning import propose
    from skinedge.data.read_options import DEFAULT
    from skinedge.run.config import load_config

    taxonomy = load_config(config).taxonomy
    dataset, inspection, report = _audit(folder, options.options(), taxonomy)
    shared = None
    if against is not None:
        shared = overlaps(inspection.samples, _audit(against, DEFAULT)[1].samples)
    passed = report.passed and not shared
    if json:
        pairs = None if shared is None else [asdict(pair) for pair in shared]
        document = {
            "passed": passed,
            "sound": report.sound,
            **asdict(report),
            "against": str(against) if against else None,
            "overlaps": pairs,
        }
        emit_json("data.check", document, model_id=None, model_sha256=None)
    else:
        show(report)
        if shared is not None:
            list_cases(f"images also in {against}", [line_of(pair) for pair in shared])
        say(verdict(report, bool(shared)), "green" if passed else "red")
        show_refusals(report)
        show_remedy(folder, options, report, dataset, propose(dataset, inspection, report))
    if not passed:
        raise typer.Exit(1)


@data_app.command()
@expand_groups
def clean(
    folder: FolderArgument,
    options: TableOptions,
    plan: Annotated[Path, typer.Option("--plan", metavar="FILE.csv", help="Plan to write.")],
    json: JsonOption = False,
) -> None:
    """Write a plan of the images to leave out in training, for review; no image is deleted.

    It has a row for each unreadable image, copy, image under two labels, leak between official splits, and image of a
    class that is too small. Edit the column `action`, then give the plan to train, run, evaluate or data check.
    """
    from collections import Counter

    from skinedge.core.files import check_writable, write_atomic
    from skinedge.data.cleaning import propose
    from skinedge.data.plan import LEAVE_OUT, to_text

    if plan.exists():
        raise ConfigError("exists, and may hold your changes", where=str(plan), todo="Remove it, or name another file.")
    check_writable(plan.parent)
    dataset, inspection, report = _audit(folder, options.reading())
    rows = propose(dataset, inspection, report)
    write_atomic(plan, to_text(rows))
    actions = Counter(row.action for row in rows)
    if json:
        document = {"plan": str(plan), "actions": dict(actions), "images": len(dataset.samples)}
        emit_json("data.clean", document, model_id=None, model_sha256=None)
    else:
        counts = Counter((row.action, row.reason.partition(":")[0]) for row in rows)
        table(
            str(plan), ("action", "images", "reason"), [(action, n, reason) for (action, reason), n in counts.items()]
        )
        say(f"{actions[LEAVE_OUT]} images to leave out; review the plan, then: {train_with(folder, options, plan)}")
    for problem in report.problems:
        if not problem.images:
            note(f"not repaired by a plan: {problem.line()}. {problem.todo}")


def _audit(
    folder: Path, options: ReadOptions, taxonomy: Mapping[str, str] | None = None
) -> tuple[Dataset, Inspection, AuditReport]:
    from skinedge.data.audit import audit
    from skinedge.data.hashing import inspect_images
    from skinedge.data.readers import survey

    surveyed = survey(folder, options)
    dataset = surveyed.dataset
    note(f"{folder}: {dataset.kind}, {len(dataset.samples)} images, {len(dataset.labels)} classes")
    inspection = inspect_images(dataset)
    return dataset, inspection, audit(dataset, inspection, surveyed.problems, surveyed.unused_tables, taxonomy)
