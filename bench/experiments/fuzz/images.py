"""Images in every format that Pillow writes: damaged, disguised, much too large, or not regular files."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image

from experiments.colour_vectors import profiles
from experiments.fuzz.case import Base, Case, Content, Fifo, Folder, Link, Sparse
from experiments.fuzz.fixture import IMAGE, RUN
from experiments.fuzz.mutate import NAMES, mutated

SHIPPED = Path(__file__).resolve().parents[3] / "skinedge" / "flagship"
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
SUFFIXES = (".jpg", ".png", ".gif", ".bmp", ".tif", ".webp", ".heic", ".dcm")
DICOM = ("SC_rgb_rle", "SC_rgb_jpeg_dcmtk", "MR_small_RLE", "MR_small_jp2klossless", "CT_small", "examples_palette")
BATCH = 8  # images of one `predict`
OTHERS = ("ICO", "PPM", "PCX", "TGA", "SGI", "EPS", "PDF", "IM", "DDS", "MPO", "MSP", "ICNS", "JPEG2000")
MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F", "YCbCr", "HSV", "LAB", "PA", "La")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(victim.txt) (w) file (x) writestring\nshowpage\n%%EOF\n"
COMMANDS = ("predict",) * 4 + ("check", "info", "evaluate")


def case(rng: Random, base: Base) -> Case:
    """Mutate several images for `predict`, or one in a folder for `data` and `evaluate`."""
    command = rng.choice(COMMANDS)
    if command == "predict":
        names = [f"out/{number}{_stem(rng)}{rng.choice(SUFFIXES)}" for number in range(BATCH)]
        files = {name: _content(rng, base) for name in names}
        argv = ("predict", *names, "--run", RUN, "--jobs", "1", *(("--json",) if rng.random() < 0.5 else ()))
    else:
        files = {f"data/few/mel/{_stem(rng)}{rng.choice(SUFFIXES)}": _content(rng, base)}
        argv = ("data", command, "data/few")
        if command == "evaluate":
            argv = ("evaluate", RUN, "--data", "data/few", "--split", "all", "--jobs", "1")
    return Case("image", argv, files, encoding=rng.choice(("utf-8", "utf-8", "ascii")), inputs=len(files))


def explained(rng: Random, base: Base) -> Case:
    """Mutate one image for `explain`, with the shipped model: the fixture's run has too few pixels for a heatmap."""
    name = f"out/x{rng.choice(SUFFIXES)}"
    argv = ("explain", name, "--run", str(SHIPPED), "--method", "cam", "--out", "out/maps")
    return Case("image (explain)", argv, {name: _content(rng, base)})


def _stem(rng: Random) -> str:
    """Return the stem of a file name; sometimes one with characters that must not reach a terminal unescaped."""
    if rng.random() > 0.08:
        return "x"
    stem = rng.choice(NAMES[13:])[:100].replace("/", "_").replace("\0", "_")
    return stem.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def _content(rng: Random, base: Base) -> Content:
    if rng.random() < 0.03:
        return rng.choice((Fifo(), Folder(), Sparse(9 << 30), Sparse(0), Link("/dev/zero"), Link("x.jpg"),
        Link("/etc/passwd"),
                           Link("/proc/self/mem"), Link("../victim.txt"), Link("..")))  # fmt: skip
    if rng.random() < 0.06:
        return rng.choice((_bomb_png, _bomb_text, _bomb_gif, _bomb_bmp, _bomb_tiff))(rng)
    if rng.random() < 0.05:
        return rng.choice((EPS, SVG, b"%PDF-1.4\n" + rng.randbytes(200), b"", b"\0" * 4096, rng.randbytes(3000)))
    if rng.random() < 0.08:
        return mutated(rng, _picture(rng.choice(OTHERS), "RGB"))
    if rng.random() < 0.15:
        return mutated(rng, rng.choice(_with_extras()))
    data = base.read(IMAGE) if rng.random() < 0.3 else _picture(rng.choice(FORMATS), rng.choice(MODES))
    return mutated(rng, data, [_picture(format, "RGB") for format in FORMATS]) if rng.random() < 0.97 else data


@cache
def _with_extras() -> tuple[bytes, ...]:
    """Return small HEIC and DICOM images, and images with a colour profile."""
    from pillow_heif import register_heif_opener
    from pydicom.data import get_testdata_file

    register_heif_opener()
    picture, files = Image.effect_noise((37, 41), 60).convert("RGB"), []
    for format in ("HEIF", "JPEG", "PNG", "WEBP", "TIFF"):
        stream = io.BytesIO()
        picture.save(stream, format, icc_profile=profiles()["Display P3"])
        files.append(stream.getvalue())
    names = [str(get_testdata_file(f"{name}.dcm", download=False)) for name in DICOM]
    return (*files, *(Path(name).read_bytes() for name in names))


@cache
def _picture(format: str, mode: str) -> bytes:
    """Return a small image in `format` and `mode`, or in RGB if the format does not have the mode."""
    picture, stream = Image.effect_noise((37, 41), 60).convert("RGB"), io.BytesIO()
    try:
        picture.convert(mode).save(stream, format, **({"compression": "tiff_lzw"} if format == "TIFF" else {}))
    except (OSError, ValueError, KeyError):
        stream = io.BytesIO()
        try:
            picture.save(stream, format)
        except (OSError, ValueError, KeyError):
            picture.save(stream, "PNG")
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _zeros(megabytes: int) -> bytes:
    return zlib.compress(b"\0" * (megabytes << 20), 9)


def _bomb_png(rng: Random) -> bytes:
    """Return a PNG of few bytes and many pixels."""
    side, depth, colour = (
        rng.choice((6000, 7100, 13_000, 19_000, 60_000, 2**31 - 1)),
        rng.choice((1, 8, 16)),
        rng.choice((0, 2, 6)),
    )
    header = struct.pack(">IIBBBBB", side, rng.choice((side, 1, 1000)), depth, colour, 0, 0, rng.choice((0, 1)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", _zeros(150)) + chunk(b"IEND", b"")


def _bomb_text(rng: Random) -> bytes:
    """Return a small PNG with text or a colour profile that decompresses to many megabytes."""
    png, kind = _picture("PNG", "RGB"), rng.choice((b"zTXt", b"iCCP", b"iTXt"))
    body = b"x\0" + (b"\1\0\0\0" if kind == b"iTXt" else b"\0") + _zeros(rng.choice((60, 400)))
    return png[:33] + chunk(kind, body) * rng.choice((1, 20)) + png[33:]


def _bomb_gif(rng: Random) -> bytes:
    size = struct.pack("<HH", rng.choice((65535, 30_000)), rng.choice((65535, 2000)))
    frame = b"," + b"\0\0\0\0" + size + b"\0\x08\x02\x44\x01\0"
    return b"GIF89a" + size + b"\xf0\0\0" + b"\0\0\0\xff\xff\xff" + frame * rng.choice((1, 5000)) + b";"


def _bomb_bmp(rng: Random) -> bytes:
    sides = struct.pack("<ii", rng.choice((40_000, 2**31 - 1, -1)), rng.choice((40_000, -40_000, 1)))
    return (
        b"BM"
        + struct.pack("<IHHI", 200, 0, 0, 54)
        + struct.pack("<I", 40)
        + sides
        + struct.pack("<HHI", 1, 24, 0)
        + bytes(120)
    )


def _bomb_tiff(rng: Random) -> bytes:
    """Return a TIFF with huge sides, missing strips, and a directory that points at itself."""
    side = rng.choice((9000, 40_000, 2**31))
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, rng.choice((1, 5, 8, 32773))), (262, 3,
    1, 1),
            (273, 4, rng.choice((1, 2**28)), 8), (277, 3, 1, 1), (278, 4, 1, side), (279, 4, 1, 100)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8) + bytes(200)
