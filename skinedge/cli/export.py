"""skinedge export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from skinedge.cli.app import app
from skinedge.cli.common import emit_json, note, pick_run, say, table
from skinedge.cli.options import DataOption, JsonOption, RunArgument
from skinedge.core.errors import one_of
from skinedge.system.cpu import leave_cores_while_waiting

if TYPE_CHECKING:
    from skinedge.run.manifest import FileEntry
    from skinedge.run.run_directory import Bundle

FormatOption = Annotated[
    str, typer.Option("--format", help="File format: onnx, tflite, one of an installed plug-in, or all.")
]
Int8Option = Annotated[
    bool, typer.Option("--int8", help="Also write the fastest int8 file that keeps the diagnosis on validation images.")
]
PrecisionOption = Annotated[
    str | None,
    typer.Option("--precision", help="Write this precision only: fp32, int8, int8-mixed, int8-weight or fp16."),
]
FallbackOption = Annotated[
    str,
    typer.Option(
        "--fallback", help="any: allow precisions below int8 (weights only, half precision) if no int8 file passes."
    ),
]
ContractOption = Annotated[
    str,
    typer.Option("--contract", help="Input contract: pixels (0..255), google (-1..1), qualcomm (0..1) or uint8."),
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior",
        help="Class prior that probabilities assume: uniform or training. [default: unchanged, initially uniform]",
    ),
]
SensitivityOption = Annotated[
    float | None,
    typer.Option(
        "--sensitivity",
        help="Share of malignant images that the threshold must flag. [default: unchanged, initially 0.95]",
    ),
]
LogitsOption = Annotated[bool, typer.Option("--logits", help="Add the logits as an output.")]
HeatmapOption = Annotated[bool, typer.Option("--heatmap", help="Add every class's activation map as an output.")]
CpuOption = Annotated[str | None, typer.Option("--cpu", help="arm: also write the ONNX int8 file for ARM (S8S8).")]
ConverterOption = Annotated[
    str, typer.Option("--converter", help="Use another converter than the format's own, e.g. onnx2tf.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Write files again that are up to date.")]


@app.command()
def export(
    run: RunArgument = None,
    format: FormatOption = "all",
    int8: Int8Option = False,
    precision: PrecisionOption = None,
    fallback: FallbackOption = "none",
    contract: ContractOption = "pixels",
    logits: LogitsOption = False,
    heatmap: HeatmapOption = False,
    cpu: CpuOption = None,
    converter: ConverterOption = "",
    prior: PriorOption = None,
    sensitivity: SensitivityOption = None,
    data: DataOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write ONNX and TFLite files of a run; each is checked against PyTorch before it replaces a file."""
    one_of("--fallback", fallback, ("none", "any"))
    one_of("--cpu", cpu or "arm", ("arm",))
    leave_cores_while_waiting()
    bundle = pick_run(run, writes=True)
    from skinedge import api
    from skinedge.core.files import sha256
    from skinedge.run.manifest import MODEL
    from skinedge.stats.calibration import Reading
    from skinedge_export.export import current
    from skinedge_export.signature import IOSignature
    from skinedge_export.target import export_targets, formats

    targets = export_targets(
        formats() if format == "all" else [format],
        int8=int8,
        precision=precision,
        form=IOSignature(contract, logits, heatmap),
        fallback=fallback == "any",
        arm=cpu == "arm",
        converter=converter,
    )
    reading = Reading.of(bundle.manifest.calibration, prior, sensitivity)
    bundle = api.export(bundle, targets, data, reading=reading, force=force)
    files = [entry for target in targets if (entry := current(bundle, target)) is not None]
    if json:
        document = {"run": str(bundle.root), "files": {entry.path: _document(bundle, entry) for entry in files}}
        emit_json("export", document, model_id=bundle.manifest.id, model_sha256=sha256(bundle.file(MODEL)))
    else:
        _show(bundle, files)


def _document(bundle: Bundle, entry: FileEntry) -> dict[str, object]:
    keys = ("precision", "gates", "ops", "versions", "calibration", "kept_float", "asked")
    info = {key: entry.info[key] for key in keys if key in entry.info}
    report = _search_report(bundle, entry)
    return {"sha256": entry.sha256, "size_bytes": entry.size, **info, **({"ladder": report} if report else {})}


def _show(bundle: Bundle, files: list[FileEntry]) -> None:
    from skinedge.stats.verdicts import counted

    fp32_sizes = {
        entry.info["format"]: entry.size for entry in bundle.model_files() if entry.info["precision"] == "fp32"
    }
    rows = []
    for entry in files:
        others = [gate["name"] for gate in entry.info["gates"] if gate["verdict"] != "pass"]
        gates = counted(gate["verdict"] for gate in entry.info["gates"]) + (f": {', '.join(others)}" if others else "")
        fp32_size = fp32_sizes.get(entry.info["format"])
        ratio = f"{entry.size / fp32_size:.3f}" if fp32_size else None
        ops = sum(entry.info["ops"].values())
        threshold = f"{bundle.manifest.threshold(entry.path):.3f}"
        rows.append((entry.path, entry.info["precision"], f"{entry.size / 1e6:.2f}", ratio, ops, gates, threshold))
    for entry in files:
        _show_search(bundle, entry)
    columns = ("file", "precision", "MB", "of fp32", "ops", "gates of export", "threshold")
    table(f"Files in {bundle.root}", columns, rows)
    say("Gates of export use validation images; skinedge verify has more gates, on the test images.")


def _show_search(bundle: Bundle, entry: FileEntry) -> None:
    """Print the candidates of one file, with their metrics on validation images."""
    report = _search_report(bundle, entry)
    if report is None:
        return
    from skinedge.stats.verdicts import word, worst_of

    rows = []
    for candidate in report["rungs"]:
        metrics = candidate["validation"] or {}
        figures = [
            None if metrics.get(key) is None else f"{metrics[key]:{form}}"
            for key, form in (
                ("agreement", ".3f"),
                ("fall", "+.4f"),
                ("melanoma_sensitivity", ".3f"),
                ("distance", ".3f"),
            )
        ]
        verdict = word(worst_of(gate["verdict"] for gate in candidate["gates"]))
        verdict = f"{verdict}, chosen" if candidate["rung"] == report["chosen"] else verdict
        latency = None if candidate["milliseconds"] is None else f"{candidate['milliseconds']:.2f}"
        cost = (f"{candidate['size_bytes'] / 1e6:.2f}", latency, candidate["partitions"])
        rows.append((candidate["rung"], *figures, *cost, verdict))
    columns = ("candidate", "agreement", "drop", "mel sens", "distance", "MB", "ms", "partitions", "verdict")
    table(f"{entry.path}: {report['validation_images']} validation images, 1 thread", columns, rows)
    if report["given_up"]:
        note(f"{entry.path}: {report['given_up']}")


def _search_report(bundle: Bundle, entry: FileEntry) -> dict[str, Any] | None:
    from skinedge.run.report_schemas import read_report
    from skinedge_export.export import report_name

    name = report_name(entry.path)
    return read_report(bundle.file(name)) if bundle.has(name) else None
