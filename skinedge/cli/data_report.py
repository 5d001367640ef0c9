"""What `skinedge data check` prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skinedge.cli.common import say, table
from skinedge.cli.options import TableOptions

if TYPE_CHECKING:
    from skinedge.data.audit import AuditReport, DuplicatePair
    from skinedge.data.dataset import Dataset
    from skinedge.data.plan import PlanRow

SHOWN = 5


def show(report: AuditReport) -> None:
    """Print the classes, and each kind of finding with its number and the first cases."""
    table(report.kind, ("class", "images"), list(report.counts.items()))
    say(
        f"{sum(report.counts.values())} images, "
        + (f"{report.lesions} lesions" if report.lesions else "lesions unknown")
        + (f", {report.patients} patients" if report.patients else "")
    )
    list_cases("unreadable images", [f"{path}: {reason}" for path, reason in report.unreadable])
    list_cases("images under two labels", [" = ".join(paths) for paths in report.two_labels])
    for problem in report.problems:
        list_cases(problem.what, list(problem.cases))
    list_cases("leaks between the folder's splits", [line_of(pair) for pair in report.leaks])
    list_cases("sets of exact duplicates", [" = ".join(paths) for paths in report.exact])
    list_cases("pairs of near duplicates (of different lesions, as far as known)", [line_of(p) for p in report.near])
    if report.unused_tables:
        list_cases("tables not used", list(report.unused_tables))


def verdict(report: AuditReport, shared: bool) -> str:
    """Say whether training accepts the folder. shared: whether another folder has some of its images."""
    if not report.sound or shared:
        return "FAILED: repair the folder (or its splits) before training on it"
    return "passed" if report.passed else "FAILED: the folder is in order, but train refuses it as it is:"


def show_refusals(report: AuditReport) -> None:
    """Print what training would refuse although the folder is in order."""
    for label, (count, splits) in report.scarce.items():
        unit = "patients" if report.patients else "lesions (or distinct images)"
        say(f"train refuses class '{label}': {count} {unit}, but needs at least {splits}, one for each split")
    for reason in report.refusals:
        say(f"train refuses: {reason}")
    if report.unknown_classes:
        names = ", ".join(report.unknown_classes)
        say(
            f"train refuses {len(report.unknown_classes)} classes that are not in the table of skin conditions: {names}"
        )


def show_remedy(
    folder: Path, options: TableOptions, report: AuditReport, dataset: Dataset, rows: Sequence[PlanRow]
) -> None:
    """Print what to do about everything that training refuses, to be pasted."""
    from skinedge.core.taxonomy import block
    from skinedge.data.cleaning import remaining_labels

    for todo in dict.fromkeys(problem.todo for problem in report.problems if problem.todo and not problem.images):
        say(todo)
    left = remaining_labels(dataset.samples, rows)
    of_images = report.unreadable or report.two_labels or report.leaks or report.scarce
    mendable = of_images or any(problem.images for problem in report.problems)
    if mendable and len(left) < 2:
        say("Without these images, fewer than two classes would be left: add images.")
    elif mendable:
        plan = Path(f"{folder.resolve().name}-plan.csv")
        command = ["skinedge", "data", "clean", str(folder), *options.arguments(), "--plan", str(plan)]
        say("To train without these images, review the plan that the first command writes; nothing is deleted:")
        say(f"  {shlex.join(command)}")
        say(f"  {train_with(folder, options, plan)}")
    unknown = [label for label in report.unknown_classes if label in left]
    if unknown:
        say(
            "Set each unknown class to benign, premalignant, malignant or the name of a known condition, in a TOML file"
        )
        say("given with --config:")
        for line in block(unknown).splitlines():
            say(line)


def train_with(folder: Path, options: TableOptions, plan: Path) -> str:
    """Return the command that trains on the folder with the plan."""
    return shlex.join(["skinedge", "train", "--data", str(folder), *options.arguments(), "--plan", str(plan)])


def list_cases(title: str, lines: Sequence[str]) -> None:
    """Print the number of cases and the first of them."""
    say(f"{len(lines)} {title}")
    for line in lines[:SHOWN]:
        say(f"  {line}")
    if len(lines) > SHOWN:
        say("  ... (--json lists all)")


def line_of(pair: DuplicatePair) -> str:
    """Return a pair of images with the evidence."""
    return f"{pair.left} ~ {pair.right} ({pair.by}{f', {pair.distance} of 256 bits differ' if pair.distance else ''})"
