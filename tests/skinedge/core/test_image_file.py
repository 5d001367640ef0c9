"""Image files that were made to harm: refused in one line, at once, without the memory that they ask for."""

from __future__ import annotations

import io
import os
import random
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.core.image_file import FORMATS, IMAGE_SUFFIXES, MAX_BYTES, MAX_PIXELS, load_image, read_bytes
from skinedge.data.folder import list_folder


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def drawing(height: int = 24, width: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of 8 bits; `chunks` come before the pixels, which are zeros."""
    rows = zlib.compressobj()
    pixels = b"".join(rows.compress(bytes(1 + width)) for _ in range(height)) + rows.flush()
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        *chunks,
        (b"IDAT", pixels),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def peak_mib(path: Path) -> tuple[float, str]:
    """Peak memory of a process that decodes `path`, above that of one that only imports; and what it printed."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom skinedge.core.image_file import load_image\n"
        "from skinedge_bench.latency.probe import peak_rss_mib as peak\nbefore = peak()\n"
        "try: print(load_image(Path(sys.argv[1])).shape)\nexcept Exception as error: print(error)\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    said, _, mib = done.stdout.strip().rpartition("\n")
    return float(mib), said


def test_every_suffix_has_its_format_and_no_other_is_opened() -> None:
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in IMAGE_SUFFIXES} == set(FORMATS)
    writable = set(Image.SAVE) - {*FORMATS, "MPO", "PDF"}
    refused = 0
    for kind in sorted(writable):
        try:
            data = encode(drawing(32, 32), kind)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            continue  # not for RGB, or not in this build
        with pytest.raises(DataError, match="not an image in a supported format"):
            load_image(data)
        refused += 1
    assert refused >= 5 and "EPS" in writable


def test_an_eps_named_jpg_starts_no_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, trap = tmp_path / "a.jpg", tmp_path / "bin"
    path.write_bytes(encode(drawing(), "EPS"))
    trap.mkdir()
    (trap / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (trap / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{trap}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(DataError, match=r"a\.jpg: not an image"):
        load_image(path)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"a\.jpg: not a regular file$"):
        load_image(path)


def test_a_large_image_is_refused_by_its_header(tmp_path: Path) -> None:
    """The case of the campaign: 374 kB that were 4.5 GiB."""
    path = tmp_path / "grey.png"
    for width, height in ((20_000, 17_000), (10_000, 8_000), (8192, 6145)):
        path.write_bytes(png(width, 1).replace(struct.pack(">II", width, 1), struct.pack(">II", width, height)))
        content = bytearray(path.read_bytes())
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
        path.write_bytes(content)
        with pytest.raises(DataError) as raised:
            load_image(path)
        megapixels = f"{width * height / 1e6:.1f}"
        assert str(raised.value) == f"{path}: image of {megapixels} megapixels is larger than the limit of 50.3"
    assert width * height == MAX_PIXELS + 8192


def test_memory_stays_near_the_images_own(tmp_path: Path) -> None:
    side, path = 4096, tmp_path / "large.png"
    Image.fromarray(np.full((side, side), 40_000, np.uint16)).save(path)
    mib, said = peak_mib(path)
    assert said == f"({side}, {side}, 3)" and mib < 8 * side * side / 2**20  # it was 24 bytes a pixel
    Image.new("RGBA", (side, side), (1, 2, 3, 100)).save(path)
    mib, said = peak_mib(path)
    assert said == f"({side}, {side}, 3)" and mib < 10 * side * side / 2**20


def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bmp"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match="larger than the limit of 256 MiB"):
        read_bytes(path)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_text_and_profiles_do_not_swell(tmp_path: Path, kind: bytes) -> None:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    path = tmp_path / "a.png"
    path.write_bytes(png(32, 32, (kind, b"name\0\0" + packed)))
    mib, said = peak_mib(path)
    assert "unreadable image" in said and mib < 64


def test_tiles_larger_than_any_image_are_refused() -> None:
    """libtiff allocates a tile whole, before it looks at what is in it."""

    def tiled(side: int) -> bytes:
        tile = zlib.compress(bytes(64 * 64))
        tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: len(tile)}
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        directory = struct.pack("<H", len(tags)) + entries + bytes(4)
        return b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + directory

    assert not load_image(tiled(64)).any()
    with pytest.raises(DataError, match=r"image of 3600\.0 megapixels is larger"):
        load_image(tiled(60_000))


def test_a_jpeg_of_a_thousand_scans_is_refused_and_an_appended_film_is_not() -> None:
    data = encode(drawing(1000, 1000), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    with pytest.raises(DataError, match="more than 1006 scans over its 1000 x 1000 pixels"):
        load_image(data[:-2] + 1100 * scan[:20] + data[-2:])
    film = random.Random(0).randbytes(2000).join([b"\xff\xda"] * 3000)
    np.testing.assert_array_equal(load_image(data + film), load_image(data))


def test_a_run_length_bmp_is_no_way_to_wait() -> None:
    header = bytearray(encode(Image.new("L", (64, 64)), "BMP"))
    header[30:34] = struct.pack("<I", 1)  # BI_RLE8
    with pytest.raises(DataError, match="larger than the limit of 8 MiB"):
        load_image(bytes(header) + bytes(9 << 20))


def variants() -> list[tuple[str, bytes]]:
    """One small file for each way of storing pixels that people have."""
    picture = drawing()
    grey16 = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (24, 32)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        ("png", encode(picture, "PNG", exif=exif)),
        ("png 16", encode(grey16, "PNG")),
        ("png palette", encode(picture.quantize(16), "PNG", transparency=bytes(range(16)))),
        ("jpeg", encode(picture, "JPEG", exif=exif)),
        ("jpeg progressive", encode(picture, "JPEG", progressive=True)),
        ("jpeg cmyk", encode(picture.convert("CMYK"), "JPEG")),
        ("mpo", encode(picture, "MPO", save_all=True, append_images=[picture])),
        ("bmp", encode(picture, "BMP")),
        ("gif", encode(picture, "GIF", save_all=True, append_images=[drawing(24, 32).rotate(180)])),
        ("tiff", encode(picture, "TIFF", exif=exif)),
        ("tiff lzw", encode(grey16, "TIFF", compression="tiff_lzw")),
        ("tiff jpeg", encode(picture, "TIFF", compression="jpeg")),
        ("webp", encode(picture, "WEBP", exif=exif)),
        ("webp animated", encode(picture, "WEBP", save_all=True, append_images=[picture.rotate(180)])),
    ]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Flipped bits, numbers in the header replaced, cut, or with a piece moved elsewhere."""
    changed = bytearray(data)
    kind = rng.choice(["bits", "header", "cut", "splice"])
    if kind == "cut":
        return bytes(changed[: rng.randrange(len(data))])
    if kind == "splice":
        start, size, to = rng.randrange(len(data)), rng.randrange(1, 64), rng.randrange(len(data))
        changed[to:to] = data[start : start + size]
        return bytes(changed)
    for _ in range(rng.randrange(1, 5)):
        if kind == "bits":
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            at = rng.randrange(min(len(data), 120))
            changed[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\1\0\0"])
    return bytes(changed)


@pytest.mark.parametrize(("kind", "data"), variants(), ids=[kind for kind, _ in variants()])
def test_mutated_images_give_pixels_or_one_line(kind: str, data: bytes) -> None:
    rng, refused = random.Random(14), 0
    for case in range(200):
        broken = mutated(data, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF in what it can still read
            try:
                pixels = load_image(broken)
                assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.flags.c_contiguous, case
            except DataError as error:
                assert error.where == "image" and "\n" not in error.what, case
                refused += 1
    assert refused > 10


def test_a_folder_has_the_images_that_a_person_put_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a.jpg", "b/c.PNG", "left_mask.jpg.tif", "thumb.jpg"]
    out = ["._a.jpg", ".a.png", "a_segmentation.png", "b/c_Mask.png", "a_superpixels.png", "a_thumbnail.jpg"]
    hidden = [".ipynb_checkpoints/a.jpg", "b/.git/a.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg", "$RECYCLE.BIN/a.jpg"]
    for name in [*names, *out, *hidden, "notes.txt", ".notes.txt", "a.heic"]:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    folder = list_folder(tmp_path)
    assert folder.images == tuple(sorted(names)) and folder.ignored == (".heic",)
    folder.note_left_out()
    said = re.sub(r" in [^;\s]+", "", capsys.readouterr().err)
    assert said == (
        "left out: 3 folders of other programs, 2 hidden files, 2 hidden folders, 3 segmentation masks, 1 thumbnails\n"
        "not read: 1 .heic; convert such images to .jpg or .png\n"
    )
