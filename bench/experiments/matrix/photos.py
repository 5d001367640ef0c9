"""Distinct small photos: no two of them look alike, so that no split keeps them together."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


@cache
def photo(number: int, format: str = "JPEG") -> bytes:
    """Return the photo with this number."""
    blobs = np.random.default_rng(number).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(blobs).resize((48, 40), Image.Resampling.BICUBIC).save(stream, format)
    return stream.getvalue()


def write_photos(root: Path, names: Iterable[str]) -> None:
    """Write a photo to each path below `root`, in the format of its suffix (JPEG without a known one)."""
    formats = Image.registered_extensions()
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        format = formats.get(path.suffix.lower(), "JPEG")
        path.write_bytes(photo(number, format if format in ("JPEG", "PNG", "BMP", "GIF") else "JPEG"))
