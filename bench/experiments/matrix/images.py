"""Image files in every mode and container that Pillow reads, and damaged or unusual ones."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from experiments.fuzz.case import Outcome
from experiments.fuzz.fixture import RUN
from experiments.matrix import icc
from experiments.matrix.cell import Cell, Plan, one_line, works

Pixels = NDArray[Any]
EXACT, LOSSY = 1.0, 6.0  # largest mean difference of a smooth image; lossy files have colours at half resolution
HEIC, DICOM = "pillow_heif", "pydicom"


@dataclass(frozen=True)
class Picture:
    """One image file.

    pixels: (H, W, 3) uint8 that a viewer shows, None if the file must be refused; words: that the error, or a command
    that reads the file, must say; skip: why it cannot be made here.
    """

    name: str
    file: str
    data: bytes = b""
    pixels: Pixels | None = None
    tolerance: float = EXACT
    words: tuple[str, ...] = ()
    skip: str = ""


def cells(plan: Plan) -> list[Cell]:
    """Return a cell for each picture: `predict` must judge the pixels that a viewer shows."""
    pictures = [*modes(), *containers(), *turns(), *profiles(), *sizes(), *damaged(plan.rng), *medical()]
    return [_cell(plan, picture) for picture in pictures]


def _cell(plan: Plan, picture: Picture) -> Cell:
    commands = (("predict", picture.file, "--run", str(plan.fixture / RUN), "--jobs", "1", "--json"),)
    words = picture.words if picture.pixels is not None else (picture.file, *picture.words)
    expected = one_line(*words) if picture.pixels is None else works(partial(_is_seen, picture), *words)
    return Cell(picture.name, commands, expected, partial(_write, picture), skip=picture.skip)


def _write(picture: Picture, work: Path) -> None:
    (work / picture.file).write_bytes(picture.data)


def _is_seen(picture: Picture, outcome: Outcome, work: Path) -> str | None:
    """Compare the decoded pixels with those that a viewer shows, and look for a prediction."""
    from skinedge.core.image_file import load_image

    pixels = load_image(work / picture.file)
    if picture.pixels is None or pixels.shape != picture.pixels.shape:
        return f"decoded to {pixels.shape}"
    difference = np.abs(pixels.astype(float) - picture.pixels).mean()
    if difference > picture.tolerance:
        return f"the pixels differ from those that a viewer shows by {difference:.1f} on average"
    return None if json.loads(outcome.stdout)["probabilities"] else "no prediction"


def smooth(height: int = 40, width: int = 56) -> Pixels:
    """Return a smooth image without symmetries."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    return np.stack([40 + 190 * x, 30 + 180 * y, 60 + 120 * x * y], axis=-1).astype(np.uint8)


RGB = Image.fromarray(smooth())
GREY = RGB.convert("L")
FADING = Image.fromarray((255 * np.mgrid[0:40, 0:56][1] / 55).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.copy().save(stream, format, **options)  # saving leaves settings in the image
    return stream.getvalue()


def viewed(image: Image.Image) -> Pixels:
    """Return what a viewer shows: upright, transparency on white."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("LA", "PA", "RGBA") or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return np.asarray(upright.convert("RGB"))


def sixteen(white: int, dtype: str = "<u2") -> Pixels:
    return np.round(np.asarray(GREY) / 255 * white).astype(dtype)


def modes() -> Iterator[Picture]:
    """Yield lossless files in every mode."""
    alpha, grey_alpha, palette = RGB.copy(), GREY.copy(), RGB.quantize(64)
    alpha.putalpha(FADING)
    grey_alpha.putalpha(FADING)
    images = {"1": GREY.convert("1"), "L": GREY, "LA": grey_alpha, "P": palette, "RGB": RGB, "RGBA": alpha}
    for mode, image in images.items():
        yield Picture(f"{mode} in PNG", f"{mode}.png", encoded(image, "PNG"), viewed(image))
    yield Picture("P with a transparent colour in PNG", "a.png", *_reread(encoded(palette, "PNG", transparency=3)))
    yield Picture("RGB with a transparent colour in PNG", "a.png",
                  *_reread(encoded(RGB, "PNG", transparency=RGB.getpixel((9, 9)))))  # fmt: skip
    for mode, image in {**images, "CMYK": RGB.convert("CMYK"), "YCbCr": RGB.convert("YCbCr")}.items():
        if mode != "YCbCr":
            yield Picture(f"{mode} in TIFF", f"{mode}.tif", encoded(image, "TIFF"), viewed(image))
    grey = np.asarray(GREY.convert("RGB"))
    for name, white, words in (("16", 65535, ()), ("12", 4095, ("4095",)), ("10", 1023, ("1023",))):
        image = Image.fromarray(sixteen(white))
        for format, suffix in (("PNG", "png"), ("TIFF", "tif")):
            file = f"grey{name}.{suffix}"
            yield Picture(f"{name} bits in 16-bit {format}", file, encoded(image, format), grey, 1.5, words)
    yield Picture("I (32 bits) in TIFF", "i.tif", encoded(Image.fromarray(sixteen(65535, "<i4")), "TIFF"), grey)
    floats = Image.fromarray(np.asarray(GREY, np.float32) / 255)
    yield Picture("F in TIFF", "f.tif", encoded(floats, "TIFF"), words=("float",))
    lab = ImageCms.applyTransform(RGB, ImageCms.buildTransform(ImageCms.createProfile("sRGB"),
                                  ImageCms.createProfile("LAB"), "RGB", "LAB"))  # fmt: skip
    yield Picture("LAB in TIFF", "lab.tif", encoded(lab, "TIFF"), np.asarray(RGB), 1.5)


def _reread(data: bytes) -> tuple[bytes, Pixels]:
    return data, viewed(Image.open(io.BytesIO(data)))


def containers() -> Iterator[Picture]:
    """Yield the containers and their variants."""
    shown = np.asarray(RGB)
    lossless = {"BMP": "bmp", "GIF": "gif", "TIFF": "tiff"}
    for format, suffix in lossless.items():
        yield Picture(f"{format}", f"a.{suffix}", *_reread(encoded(RGB, format)))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        data = encoded(RGB, "TIFF", compression=compression)
        yield Picture(f"TIFF, {compression}", "a.tif", data, shown, LOSSY)
    yield Picture("WebP, lossless", "a.webp", encoded(RGB, "WEBP", lossless=True), shown)
    yield Picture("WebP, lossy", "a.webp", encoded(RGB, "WEBP"), shown, LOSSY)
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        data = encoded(RGB.convert(mode), "JPEG", quality=95)
        yield Picture(f"{mode} in JPEG", "a.jpg", data, shown if mode != "L" else viewed(GREY), LOSSY)
    yield Picture("JPEG, progressive", "a.JPEG", encoded(RGB, "JPEG", progressive=True, quality=95), shown, LOSSY)
    yield Picture("JPEG, .jfif", "a.jfif", encoded(RGB, "JPEG", quality=95), shown, LOSSY)
    yield Picture("JPEG with bytes behind it", "a.jpg", encoded(RGB, "JPEG", quality=95) + bytes(99), shown, LOSSY)
    for format, suffix, tolerance in (
        ("MPO", "jpg", LOSSY), ("GIF", "gif", 12.0), ("WEBP", "webp", LOSSY), ("PNG", "png", 0.0), ("TIFF", "tif", 0.0)
    ):  # fmt: skip
        data = encoded(RGB, format, save_all=True, append_images=[Image.new("RGB", RGB.size, "green")])
        yield Picture(f"{format}, two images", f"a.{suffix}", data, shown, tolerance)
    yield Picture("PNG named .jpg", "a.jpg", encoded(RGB, "PNG"), shown)


def turns() -> Iterator[Picture]:
    """Yield every EXIF orientation."""
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(RGB, "JPEG", exif=exif, quality=95)
        yield Picture(f"JPEG, EXIF orientation {orientation}", "a.jpg", data, viewed(Image.open(io.BytesIO(data))), 0.0)
    yield Picture("PNG, EXIF orientation 6", "a.png", *_reread(encoded(RGB, "PNG", exif=exif)))


def profiles() -> Iterator[Picture]:
    """Yield embedded colour profiles: those of a matrix and curves are converted, others named."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    known = {
        "sRGB": srgb.tobytes(),
        "Display P3": icc.matrix_profile(icc.DISPLAY_P3, icc.table(icc.SRGB_CURVE)),
        "Adobe RGB": icc.matrix_profile(icc.ADOBE_RGB, icc.gamma(563 / 256)),
    }
    for name, profile in known.items():
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = np.asarray(ImageCms.profileToProfile(RGB, source, srgb, outputMode="RGB"))
        for format, suffix in (("PNG", "png"), ("TIFF", "tif"), ("WEBP", "webp")):
            options = {"lossless": True} if format == "WEBP" else {}
            data = encoded(RGB, format, icc_profile=profile, **options)
            yield Picture(f"{name} in {format}", f"a.{suffix}", data, converted, 1.5)
    grey = icc.profile(b"GRAY", {b"wtpt": icc.xyz(icc.D50), b"kTRC": icc.gamma(1.0)})
    yield Picture("a grey profile", "a.png", encoded(GREY, "PNG", icc_profile=grey), viewed(GREY), words=("profile",))
    others = {
        "a CMYK profile": (icc.profile(b"CMYK", {}, b"prtr"), RGB.convert("CMYK"), LOSSY),
        "a damaged profile": (known["Display P3"][:200], RGB, EXACT),
        "a profile of lookup tables": (icc.profile(b"RGB ", {b"A2B0": b"mft2" + bytes(60)}), RGB, EXACT),
    }
    for name, (profile, image, tolerance) in others.items():
        data = encoded(image, "TIFF", icc_profile=profile)
        yield Picture(name, "a.tif", data, np.asarray(RGB), tolerance, ("profile",))


def sizes() -> Iterator[Picture]:
    """Yield small and long images."""
    for height, width in ((8, 8), (1, 1), (200, 3000), (3000, 200)):
        pixels = smooth(height, width)
        yield Picture(f"{width}x{height}", "a.png", encoded(Image.fromarray(pixels), "PNG"), pixels)
    strip = Image.fromarray(smooth(2, 3000))
    yield Picture("3000x2", "a.png", encoded(strip, "PNG"), words=("times as long as wide",))
    yield Picture("9000x6000", "a.png", encoded(Image.new("1", (9000, 6000)), "PNG"), words=("megapixels",))


def damaged(rng: Random) -> Iterator[Picture]:
    """Yield files that no viewer shows in full, cut at a drawn place."""
    for format, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"), ("BMP", "bmp")):
        data, share = encoded(RGB, format), rng.uniform(0.1, 0.85)
        yield Picture(f"{format}, {share:.0%} of it", f"a.{suffix}", data[: round(len(data) * share)])
    yield Picture("empty file", "a.jpg", b"")
    yield Picture("text named .jpg", "a.jpg", b"<html>not found</html>" * 20, words=("not an image",))
    yield Picture("zeros named .png", "a.png", bytes(4096))


def medical() -> Iterator[Picture]:
    """Yield phones' and clinics' formats, which extras read; without an extra the error names it."""
    heif, dicom = (importlib.util.find_spec(name) is not None for name in (HEIC, DICOM))
    yield (
        Picture("HEIC", "a.heic", _heic(), np.asarray(RGB), LOSSY)
        if heif
        else Picture("HEIC without its extra", "a.heic", b"\0\0\0\x18ftypheic" + bytes(500), words=("pillow-heif",))
    )
    if not dicom:
        yield Picture("DICOM without its extra", "a.dcm", bytes(128) + b"DICM" + bytes(500), words=("pydicom",))
        return
    grey = np.asarray(GREY)
    yield Picture("DICOM, RGB", "a.dcm", _dicom(np.asarray(RGB), "RGB"), np.asarray(RGB))
    yield Picture("DICOM, MONOCHROME2", "a.dcm", _dicom(grey, "MONOCHROME2"), viewed(GREY))
    yield Picture("DICOM, MONOCHROME1", "a.dcm", _dicom(255 - grey, "MONOCHROME1"), viewed(GREY))
    twelve = _dicom(sixteen(4095), "MONOCHROME2", bits=12)
    yield Picture("DICOM, 12 bits", "a.dcm", twelve, viewed(GREY), 1.5)
    yield Picture("DICOM, truncated", "a.dcm", twelve[: len(twelve) // 2])


def _heic() -> bytes:
    from pillow_heif import from_pillow

    stream = io.BytesIO()
    from_pillow(RGB).save(stream, quality=95)
    return stream.getvalue()


def _dicom(pixels: Pixels, interpretation: str, bits: int = 8) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, VLPhotographicImageStorage, generate_uid

    meta, data = FileMetaDataset(), Dataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = data.SOPClassUID = VLPhotographicImageStorage
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid(entropy_srcs=["skinedge"])
    data.file_meta = meta
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = interpretation
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
    data.PixelRepresentation = 0
    if bits > 8:
        data.WindowCenter, data.WindowWidth = 1 << (bits - 1), 1 << bits
    data.PixelData = pixels.tobytes()
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
