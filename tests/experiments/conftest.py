"""Fixtures for the tests of bench/experiments/, whose modules are in no installed package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config that learns to separate the tints in seconds, with margins too large for gates to be inconclusive."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes that a random network can separate, in HAM10000's layout, two per lesion."""
    folder, rng = tmp_path_factory.mktemp("tinted"), np.random.default_rng(1)
    lines = ["lesion_id,image_id,dx"]
    for index in range(120):
        label = ("mel", "nv")[index // 60]
        blobs = rng.normal(TINTS[label], 25, (6, 6, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(blobs).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"ISIC_{index:07}.png")
        lines.append(f"HAM_{index // 2:07},ISIC_{index:07},{label}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder
