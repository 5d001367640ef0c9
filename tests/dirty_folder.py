"""A folder of images with every problem that training refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(path)
    return path


def dirty_folder(root: Path) -> Path:
    """Class folders with three cases of every problem."""
    for number in range(12):
        photo(root / "mel" / f"m{number}.png", number)
        photo(root / "nv" / f"n{number}.png", 100 + number)
    for case in range(3):
        for number in range(4):
            photo(root / f"blip{case}" / f"b{case}{number}.png", 200 + 10 * case + number)  # unknown classes
        photo(root / f"melanoma {case}" / f"s{case}.png", 300 + case)  # too few images
        (root / "nv" / f"broken{case}.png").write_bytes(b"\x89PNG")
        (root / "nv" / f"same{case}.png").write_bytes((root / "mel" / f"m{case}.png").read_bytes())  # two labels
        (root / "mel" / f"copy{case}.png").write_bytes((root / "mel" / f"m{5 + case}.png").read_bytes())
        photo(root / f"loose{case}.png", 400 + case)
        (root / f"table{case}.csv").write_text("a,b\n1,2,3\n")
        (root / f"visits{case}.csv").write_text("visit,doctor\n1,x\n")
    return root
