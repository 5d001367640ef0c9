"""Write valid and damaged photos, and the pixels that Python prepares from them, for the tests of the screens."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from steps import emptied

from experiments.colour_vectors import profiles
from skinedge.core.colour import RULES
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import prepare
from skinedge.run import golden
from skinedge.run.run_directory import Bundle

ORIENTATION = 0x0112
MEGAPIXELS_200 = (16_384, 12_288)  # width, height
SIDE = 640
PROFILES = {"p3": "Display P3", "adobe": "Adobe RGB, version 2", "lookup": "lookup tables", "srgb": "sRGB"}


def write_photos(bundle: Bundle, folder: Path) -> Path:
    """Write each photo, and as NAME.rgb the prepared pixels of the readable ones."""
    emptied(folder)
    vectors = golden.load(bundle.file("golden.npz"))
    source = Image.fromarray(next(iter(vectors.sources.values())))
    photo = source.resize((SIDE, SIDE * source.height // source.width), Image.Resampling.BICUBIC)
    for turn in range(1, 9):
        (folder / f"turned-{turn}.jpg").write_bytes(encoded(photo, "JPEG", turn=turn))
    jpeg = encoded(photo, "JPEG")
    contents = {
        "photo.jpg": jpeg,
        "grey.jpg": encoded(photo.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(photo.convert("CMYK"), "JPEG"),
        "clear.png": encoded(faded(photo), "PNG"),
        "palette.png": encoded(photo.convert("P"), "PNG"),
        "photo.webp": encoded(photo, "WEBP"),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for path in sorted(folder.iterdir()):
        (folder / f"{path.name}.rgb").write_bytes(prepare(load_image(path), 224).tobytes())
    for rule in RULES:
        for name, content in with_profiles(photo):
            (folder / f"{rule}-{name}").write_bytes(content)
            (folder / f"{rule}-{name}.rgb").write_bytes(prepare(load_image(content, rule), 224).tobytes())
    (folder / "deep.png").write_bytes(encoded(Image.fromarray(np.full((64, 64), 4000, np.uint16)), "PNG"))
    (folder / "cut-off.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "letter.jpg").write_bytes(b"This is a letter, and no photo.")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "strip.png").write_bytes(encoded(photo.resize((2100, 100)), "PNG"))
    huge = Image.new("L", MEGAPIXELS_200, 150)
    (folder / "huge.jpg").write_bytes(encoded(huge, "JPEG"))
    return folder


def with_profiles(photo: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield names and files with the colour profiles of `experiments.colour_vectors`."""
    for short, name in PROFILES.items():
        for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")):
            yield f"{short}.{suffix}", encoded(photo, kind, icc_profile=profiles()[name])


def encoded(image: Image.Image, kind: str, turn: int = 1, **options: object) -> bytes:
    """Encode the image; a JPEG gets the EXIF orientation `turn`."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = turn
    options |= {"exif": exif} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    image.save(buffer, kind, quality=92, **options)
    return buffer.getvalue()


def faded(image: Image.Image) -> Image.Image:
    """Add transparency that increases from left to right."""
    alpha = np.linspace(255, 0, image.width, dtype=np.uint8)[None].repeat(image.height, axis=0)
    return Image.merge("RGBA", (*image.convert("RGB").split(), Image.fromarray(alpha)))
