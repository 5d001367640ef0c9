"""skinedge verify"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import emit_json, figure, note, say, table
from skinedge.cli.option_groups import expand_groups
from skinedge.cli.options import DataOption, FolderOptions, JsonOption, OutputOption, RunOrFileArgument

if TYPE_CHECKING:
    from skinedge.core.terminal import Colour
    from skinedge.stats.paired import Estimate
    from skinedge_bench.verify.comparison import Change, Comparison
    from skinedge_bench.verify.report import Figures, FileParity, ParityReport

COLUMNS = (
    "file",
    "max diff",
    "agreement",
    "bal acc",
    "drop",
    "AUC",
    "mel sens",
    "mal se/sp",
    "verdict",
)
UNMEASURED_COLUMNS = ("file", "without images", "on test images")
FLAG_COLUMNS = ("file", "threshold", "sensitivity", "specificity")
DROP_COLUMNS = (
    "file",
    "correct in fp32 / file only",
    "bal acc",
    "melanoma sens",
    "malignant sens",
    "|change| of score",
)
CHANGE_COLUMNS = ("image", "truth", "PyTorch", "file", "malignant score", "flag")
SHOWN = 10  # changed images printed per file; the report has all of them


@app.command()
@expand_groups
def verify(
    folder: FolderOptions,
    run: RunOrFileArgument = None,
    data: DataOption = None,
    output: OutputOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on gates that are inconclusive or not measured, too.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare each layer of the smaller files with fp32 instead of the gates.")
    ] = False,
    images: Annotated[
        int | None,
        typer.Option("--images", metavar="N", min=8, help="Use at most N images with --layers. [default: 64]"),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="PUBKEY", help="Check the package's signature first, and write no report."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check every model file against the merged PyTorch model.

    Exits with 1 if a gate fails.
    """
    from skinedge import api

    reading = folder.options()
    if layers or images is not None:
        from skinedge.cli.layers import compare_layers
        from skinedge.core.errors import ConfigError

        if strict or output is not None or not layers or reading.given:
            raise ConfigError("--images requires --layers, which excludes --strict, --output and options of a folder")
        if key is not None:
            raise ConfigError("--key excludes --layers, whose report would invalidate the signature")
        compare_layers(run, data, images, json=json)
        return
    report = api.verify(run, data, strict=strict, key=key, reading=reading, output=output)
    if json:
        emit_json("verify", report.document(), model_id=report.model_id, model_sha256=report.model_sha256)
    else:
        show(report)
    report.require_passed()


def show(report: ParityReport) -> None:
    """Print the tables (reference: the merged model in PyTorch), and unpassed gates on standard error."""
    if any(file.figures for file in report.files):
        rows = [] if report.reference is None else [["reference", *_cells(report.reference), ""]]
        for file in report.files:
            rows.append([file.name, *(_cells(file.figures) if file.figures else [None] * 7), file.word])
        table(f"Parity: {report.images}", COLUMNS, rows)
    else:
        table(f"Parity: {report.images}", UNMEASURED_COLUMNS, [_unmeasured(file) for file in report.files])
    flagged = [file for file in report.files if file.figures and file.figures.malignant["threshold"] is not None]
    if flagged:
        rows = [[file.name, *_flags(file.figures)] for file in flagged if file.figures]
        table("Malignant score at its threshold, 95 % intervals (Wilson)", FLAG_COLUMNS, rows)
    compared = [[file.name, *_drops(file.comparison)] for file in report.files if file.comparison]
    if compared:
        table(
            "Drop from PyTorch, in percentage points, 95 % intervals; changed predictions with McNemar's p",
            DROP_COLUMNS,
            compared,
        )
    for file in report.files:
        _show_changes(file)
    for file in report.files:
        _show_gates(file)
    for warning in report.warnings:
        note(f"warning: {warning}")
    colour: Colour = "green" if report.passed and report.compared else "yellow" if report.passed else "red"
    say(report.conclusion, colour)


def _cells(figures: Figures) -> list[str | None]:
    sensitivity, specificity = (figure(figures.malignant[key], 3) or "-" for key in ("sensitivity", "specificity"))
    return [
        f"{figures.max_difference:.1e}",
        f"{figures.agreement:.3f} ({figures.agreement_low:.2f}-{figures.agreement_high:.2f})",
        figure(figures.balanced_accuracy, 3),
        f"{figures.fall:+.4f}",
        figure(figures.macro_auc, 3),
        figure(figures.melanoma_sensitivity, 3),
        f"{sensitivity}/{specificity}",
    ]


def _flags(figures: Figures) -> list[str]:
    """Return the file's threshold, and its sensitivity and specificity on these images."""
    malignant = figures.malignant
    cells = [f"{malignant['threshold']:.3f}{'' if figures.own_threshold else ' (not fitted to this file)'}"]
    for name in ("sensitivity", "specificity"):
        (hits, n), (low, high) = malignant[f"{name}_counts"], malignant[f"{name}_wilson"]
        cells.append(f"{hits / n:.3f} ({low:.2f}-{high:.2f}), {hits} of {n}" if n else "-")
    return cells


def _drops(comparison: Comparison) -> list[str | None]:
    test = comparison.mcnemar
    counts = f"{test.only_reference} / {test.only_file}, p {test.p:.2f}"
    drops = (
        comparison.balanced_accuracy_fall,
        comparison.melanoma_sensitivity_fall,
        comparison.malignant_sensitivity_fall,
    )
    return [counts, *(_points(drop) for drop in drops), _score_change(comparison.malignant_score_change)]


def _score_change(change: Estimate | None) -> str | None:
    """Format the mean change of the score; without an upper bound where there are too few images for one."""
    if change is None or change.value != change.value or change.high < 1:
        return _points(change, "", 2)
    return f"{100 * change.value:.2f} (at least {100 * change.low:.2f})"


def _points(share: Estimate | None, sign: str = "+", digits: int = 1) -> str | None:
    """Format a share and its interval in percentage points; None if undefined."""
    if share is None or share.value != share.value:
        return None
    value, low, high = (f"{100 * number:{sign}.{digits}f}" for number in (share.value, share.low, share.high))
    return f"{value} ({low} to {high})"


def _show_changes(file: FileParity) -> None:
    """Print the first images whose diagnosis changed, and the number of all."""
    if not file.changed or file.figures is None:
        return
    more = f", {SHOWN} shown (all: --json)" if len(file.changed) > SHOWN else ""
    title = f"{file.name}: diagnosis changed for {len(file.changed)} of {file.figures.n} images{more}"
    table(title, CHANGE_COLUMNS, [_change(change) for change in file.changed[:SHOWN]])


def _change(change: Change) -> list[str | None]:
    return [
        change.image,
        change.label,
        f"{change.reference} {change.reference_probability:.3f}",
        f"{change.file} {change.file_probability:.3f}",
        f"{change.reference_malignant:.3f} -> {change.file_malignant:.3f}",
        change.verdict,
    ]


def _unmeasured(file: FileParity) -> list[str | None]:
    """Return the row of a file that was not run on images: the verdict of its other gates, and of these."""
    from skinedge.stats.gates import worst
    from skinedge.stats.verdicts import word

    on_images = [gate for gate in file.gates if gate.verdict == "not measured"]
    others = [gate for gate in file.gates if gate.verdict != "not measured"]
    return [file.name, word(worst(others)), word(worst(on_images)) if on_images else None]


def _show_gates(file: FileParity) -> None:
    """Print the gates that did not pass; those that were not measured on one line."""
    from skinedge_bench.verify.report import shown

    for gate in file.gates:
        if gate.verdict not in ("pass", "not measured"):
            note(f"{file.name}: {gate.name} {gate.word}: {shown(gate)}")
    missing = [gate for gate in file.gates if gate.verdict == "not measured"]
    if missing:
        note(f"{file.name}: {missing[0].word}: {', '.join(gate.name for gate in missing)}: {missing[0].detail}")
