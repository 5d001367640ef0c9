"""skinedge export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import DataOption, JsonOption, RunArgument, emit_json, pick_run, table

if TYPE_CHECKING:
    from skinedge.bundle import Bundle, FileEntry

FormatOption = Annotated[str, typer.Option("--format", help="onnx, tflite, an installed plug-in's, or all.")]
Int8Option = Annotated[bool, typer.Option("--int8", help="Also the int8 file, calibrated on training images.")]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="Class prior that probabilities assume: uniform or training. [default: as now, at first uniform]",
    ),
]
SensitivityOption = Annotated[
    float | None,
    typer.Option(
        "--sensitivity",
        help="Share of malignant images that the threshold is to flag. [default: as now, at first 0.95]",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Make files again that are up to date.")]


@app.command()
def export(
    run: RunArgument = None,
    format: FormatOption = "all",
    int8: Int8Option = False,
    prior: PriorOption = None,
    sensitivity: SensitivityOption = None,
    data: DataOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write ONNX and TFLite files of a run. Each is checked against PyTorch before it replaces anything."""
    from skinedge import plugins
    from skinedge.bundle import sha256

    formats = plugins.names(plugins.CONVERTERS) if format == "all" else [format]
    bundle = pick_run(run, writes=True)
    from skinedge.bundle import MODEL
    from skinedge.calibration import Reading
    from skinedge_export.export import export as write_files

    reading = Reading.of(bundle.manifest.calibration, prior, sensitivity)
    bundle = write_files(bundle, formats, int8, data=data, force=force, reading=reading)
    wanted = ("fp32", "int8") if int8 else ("fp32",)
    files = [e for e in bundle.model_files() if e.info["format"] in formats and e.info["precision"] in wanted]
    if json:
        document = {"run": str(bundle.root), "files": {entry.path: _document(entry) for entry in files}}
        emit_json("export", document, model_id=bundle.manifest.id, model_sha256=sha256(bundle.file(MODEL)))
    else:
        _show(bundle, files)


def _document(entry: FileEntry) -> dict[str, object]:
    kept = ("precision", "gates", "ops", "versions", "calibration")
    said = {key: entry.info[key] for key in kept if key in entry.info}
    return {"sha256": entry.sha256, "size_bytes": entry.size, **said}


def _show(bundle: Bundle, files: list[FileEntry]) -> None:
    full = {entry.info["format"]: entry.size for entry in files if entry.info["precision"] == "fp32"}
    rows = []
    for entry in files:
        open_gates = [gate["name"] for gate in entry.info["gates"] if gate["verdict"] != "pass"]
        gates = f"underpowered: {', '.join(open_gates)}" if open_gates else f"{len(entry.info['gates'])} passed"
        ratio = entry.size / full[entry.info["format"]]
        ops = sum(entry.info["ops"].values())
        flag = f"{bundle.manifest.threshold(entry.path):.3f}"
        rows.append((entry.path, entry.info["precision"], f"{entry.size / 1e6:.2f}", f"{ratio:.3f}", ops, gates, flag))
    table(f"Files in {bundle.root}", ("file", "precision", "MB", "of fp32", "ops", "gates", "malignant from"), rows)
