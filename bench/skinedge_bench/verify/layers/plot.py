"""reports/layers.png: bars of the SQNR of every layer in graph order, one row per file, with the worst named."""

from __future__ import annotations

import io
import math
from importlib.util import find_spec
from typing import TYPE_CHECKING

from skinedge_bench.evaluate.plots import BLUE, NOTICE, VERMILION
from skinedge_bench.verify.layers.report import FileLayers, LayersReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 5
TOP = 60.0  # dB; the 120 of an exact layer would flatten the others


def can_draw() -> bool:
    """Return True if matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(report: LayersReport) -> bytes:
    """Draw the plot as PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False, "font.size": 9, "axes.grid": False}):
        figure = Figure(figsize=(11, 0.8 + 3.4 * len(report.files)), layout="constrained")
        for axes, file in zip(figure.subplots(len(report.files), 1, squeeze=False)[:, 0], report.files, strict=True):
            _bars(axes, file)
        figure.suptitle(f"Layers against fp32, {report.images}. {NOTICE}.", fontsize=10)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=130)
        return out.getvalue()


def _bars(axes: Axes, file: FileLayers) -> None:
    """Draw one bar per layer; a layer without SQNR (all zero in fp32) has none."""
    worst = [layer for layer in file.worst_first[:NAMED] if not math.isnan(layer.sqnr_db)]
    heights = [0.0 if math.isnan(layer.sqnr_db) else layer.sqnr_db for layer in file.layers]
    colours = [VERMILION if layer in worst else BLUE for layer in file.layers]
    axes.bar(range(len(heights)), heights, color=colours, width=0.8)
    lines = [f"{layer.sqnr_db:5.1f} dB  {layer.place:3d}  {layer.name}  {layer.kind}" for layer in worst]
    if file.steepest is not None:
        lines += ["", "adds most noise:", f"{file.steepest.added:8.2%}  {file.steepest.place:3d}  {file.steepest.name}"]
    text = "\n".join(["worst:", *lines])
    axes.text(1.01, 1.0, text, transform=axes.transAxes, va="top", fontsize=8, family="monospace")
    axes.margins(x=0.01)
    axes.set_ylim(min([0.0, *heights]), min(TOP, max([1.0, *heights])))
    axes.set(xlabel="layer, in the order of the graph", ylabel=f"SQNR (dB), cut at {TOP:g}")
    axes.set_title(f"{file.name} against {file.reference}", fontsize=9, loc="left")
