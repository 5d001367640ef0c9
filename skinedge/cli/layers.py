"""skinedge verify --layers"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from skinedge.cli.common import emit_json, figure, note, say, table

if TYPE_CHECKING:
    from skinedge_bench.verify.layers.report import FileLayers, LayersReport

COLUMNS = ("layer", "operation", "SQNR dB", "cosine", "adds", "lost channels")
SHOWN = 15


def compare_layers(run: Path | None, data: Path | None, images: int | None, *, json: bool) -> None:
    """Compare the layers of a run's smaller files, or of one named file, with fp32, and print them."""
    from skinedge import api

    report = api.layers(run, data, images)
    if json:
        emit_json("layers", report.document(), model_id=report.model_id, model_sha256=report.model_sha256)
    else:
        show(report)
    note("gates not checked: run skinedge verify without --layers")


def show(report: LayersReport) -> None:
    """Print the worst layers of each file, and the layer that adds most noise."""
    from skinedge_bench.verify.layers.report import METHOD

    say(f"Layers against fp32 on {report.images}")
    for file in report.files:
        table(f"{file.name}: {_count(file)}, worst first", COLUMNS, _rows(file))
        if file.steepest is not None:
            layer = file.steepest
            say(f"most noise is added by {layer.name} ({layer.kind}): {layer.added:.2%} of its signal's energy")
            say()
        if file.unmatched:
            note(f"{file.name}: not found in {file.reference}: {', '.join(file.unmatched)}")
    note(f"method: {METHOD}")


def _count(file: FileLayers) -> str:
    return f"{min(SHOWN, len(file.layers))} of {len(file.layers)} layers"


def _rows(file: FileLayers) -> list[list[str | None]]:
    return [
        [
            layer.name,
            layer.kind,
            figure(layer.sqnr_db, 1),
            figure(layer.cosine, 4),
            f"{layer.added:+.2%}",
            f"{layer.lost}/{layer.channels}",
        ]
        for layer in file.worst_first[:SHOWN]
    ]
