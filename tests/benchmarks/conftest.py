"""Modules of benchmarks/, which are scripts' neighbours and in no package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = """
backbone = "test_efficientnet"
weights = "random"
image_size = 64
epochs = 12
batch_size = 8
patience = 12
precision = "fp32"
[lora]
rank = 8
[optimizer]
learning_rate = 0.02
average = 0.9
"""
TINTS = {"mel": (150, 90, 60), "nv": (60, 110, 160)}


def script(name: str, *neighbours: str) -> Iterator[ModuleType]:
    """benchmarks/NAME.py as a module, forgotten afterwards with the neighbours that it imports."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module(name)
    sys.path.remove(str(FOLDER))
    for known in (name, *neighbours):
        del sys.modules[known]


@pytest.fixture(scope="module")
def targets() -> Iterator[ModuleType]:
    """With its neighbours as `targets.folds` and `targets.dermamnist`."""
    yield from script("targets", "folds", "dermamnist")


@pytest.fixture(scope="module")
def choices() -> Iterator[ModuleType]:
    yield from script("choices")


@pytest.fixture(scope="module")
def flagship() -> Iterator[ModuleType]:
    yield from script("flagship")


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    yield from script("tables")


@pytest.fixture(scope="module")
def seeds() -> Iterator[ModuleType]:
    yield from script("seeds")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config that learns to tell the tints apart in seconds, so surely that no gate hangs on the last bit."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes that a random network's features tell apart, in HAM10000's layout: two of each lesion."""
    folder, rng = tmp_path_factory.mktemp("tinted"), np.random.default_rng(1)
    lines = ["lesion_id,image_id,dx"]
    for index in range(120):
        label = ("mel", "nv")[index // 60]
        blobs = rng.normal(TINTS[label], 25, (6, 6, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(blobs).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"ISIC_{index:07}.png")
        lines.append(f"HAM_{index // 2:07},ISIC_{index:07},{label}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder
