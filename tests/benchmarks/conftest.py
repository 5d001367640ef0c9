"""Modules of benchmarks/, which are scripts' neighbours and in no package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = """
backbone = "test_efficientnet"
weights = "random"
image_size = 64
epochs = 1
precision = "fp32"
[lora]
rank = 4
"""


@pytest.fixture(scope="module")
def targets() -> Iterator[ModuleType]:
    """benchmarks/targets.py, with its neighbours as `targets.folds` and `targets.dermamnist`."""
    names = ("targets", "folds", "dermamnist")
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("targets")
    sys.path.remove(str(FOLDER))
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config that trains in a second."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path
