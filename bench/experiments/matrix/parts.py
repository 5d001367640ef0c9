"""The parts of the matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments.matrix import environment, folders, images, models, numerics, options, tables
from experiments.matrix.cell import Cell, Plan

NOT_YET = ("backbones",)


@dataclass(frozen=True)
class Part:
    """One part. cells: draws its cells; torch: its commands train or export."""

    about: str
    cells: Callable[[Plan], list[Cell]]
    torch: bool = False


PARTS: Mapping[str, Part] = {
    "tables": Part("datasets, with their tables as other programs write them", tables.cells),
    "folders": Part("folders and names", folders.cells),
    "images": Part("image files", images.cells),
    "environment": Part("machines and environments", environment.cells),
    "models": Part("model files of other tools", models.cells),
    "options": Part("options in pairs; runs and images that were moved", options.cells, torch=True),
    "numerics": Part("networks with unusual channels, and seeds of the default one", numerics.cells, torch=True),
}
