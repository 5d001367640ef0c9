"""The parts of the matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments.matrix import environment, folders, images, models, tables
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
}
