"""Malicious image files: refused immediately in one line, without allocating the memory that they declare."""

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
    """Return an 8-bit grey PNG of zeros, with `chunks` before the pixels."""
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
    """Decode `path` in a process; return its peak memory above that after the imports (MiB), and its output."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom skinedge.core.image_file import load_image\n"
        "from skinedge_bench.latency.probe import peak_rss_mib as peak\nbefore = peak()\n"
        "try: print(load_image(Path(sys.argv[1])).shape)\nexcept Exception as error: print(error)\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    output, _, mib = done.stdout.strip().rpartition("\n")
    return float(mib), output


def test_only_formats_of_the_image_suffixes_are_opened() -> None:
    Image.init()
    suffixes = IMAGE_SUFFIXES - {".heic", ".heif", ".dcm"}  # read with extras
    assert {Image.EXTENSION[suffix] for suffix in suffixes} == set(FORMATS)
    writable = set(Image.SAVE) - {*FORMATS, "MPO", "PDF", "HEIF"}
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


def test_eps_named_jpg_does_not_start_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_image_that_is_not_a_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"a\.jpg: not a regular file$"):
        load_image(path)


def test_large_image_is_refused_by_its_header(tmp_path: Path) -> None:
    """The case found by fuzzing: 374 kB decode to 4.5 GiB."""
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


def test_decoding_memory_is_bounded_per_pixel(tmp_path: Path) -> None:
    side, path = 4096, tmp_path / "large.png"
    Image.fromarray(np.full((side, side), 40_000, np.uint16)).save(path)
    mib, output = peak_mib(path)
    assert output == f"({side}, {side}, 3)" and mib < 8 * side * side / 2**20  # once 24 bytes per pixel
    Image.new("RGBA", (side, side), (1, 2, 3, 100)).save(path)
    mib, output = peak_mib(path)
    assert output == f"({side}, {side}, 3)" and mib < 10 * side * side / 2**20


def test_oversized_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bmp"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(DataError, match="larger than the limit of 256 MiB"):
        read_bytes(path)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_compressed_png_chunks_do_not_use_memory(tmp_path: Path, kind: bytes) -> None:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    path = tmp_path / "a.png"
    path.write_bytes(png(32, 32, (kind, b"name\0\0" + packed)))
    mib, output = peak_mib(path)
    assert "unreadable image" in output and mib < 64


def test_oversized_tiff_tiles_are_refused() -> None:
    """libtiff allocates the full tile before it reads its content."""

    def tiled(side: int) -> bytes:
        tile = zlib.compress(bytes(64 * 64))
        tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: len(tile)}
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        directory = struct.pack("<H", len(tags)) + entries + bytes(4)
        return b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + directory

    assert not load_image(tiled(64)).any()
    with pytest.raises(DataError, match=r"image of 3600\.0 megapixels is larger"):
        load_image(tiled(60_000))


def test_jpeg_with_too_many_scans_is_refused_but_not_an_appended_video() -> None:
    data = encode(drawing(1000, 1000), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    with pytest.raises(DataError, match="more than 1006 scans over its 1000 x 1000 pixels"):
        load_image(data[:-2] + 1100 * scan[:20] + data[-2:])
    video = random.Random(0).randbytes(2000).join([b"\xff\xda"] * 3000)
    np.testing.assert_array_equal(load_image(data + video), load_image(data))


def test_large_run_length_encoded_bmp_is_refused() -> None:
    header = bytearray(encode(Image.new("L", (64, 64)), "BMP"))
    header[30:34] = struct.pack("<I", 1)  # BI_RLE8
    with pytest.raises(DataError, match="larger than the limit of 8 MiB"):
        load_image(bytes(header) + bytes(9 << 20))


def variants() -> list[tuple[str, bytes]]:
    """Return one small file for each common format and pixel encoding."""
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
    """Return the file with flipped bits, changed header values, cut, or with a copied piece inserted."""
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
def test_mutated_images_are_decoded_or_refused_in_one_line(kind: str, data: bytes) -> None:
    rng, refused = random.Random(14), 0
    for case in range(200):
        broken = mutated(data, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about malformed EXIF in readable images
            try:
                pixels = load_image(broken)
                assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.flags.c_contiguous, case
            except DataError as error:
                assert error.where == "image" and "\n" not in error.what, case
                refused += 1
    assert refused > 10


def test_folder_listing_excludes_masks_thumbnails_and_hidden_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a.jpg", "b/c.PNG", "left_mask.jpg.tif", "thumb.jpg", "photo.jfif"]
    excluded = ["._a.jpg", ".a.png", "a_segmentation.png", "b/c_Mask.png", "a_superpixels.png", "a_thumbnail.jpg"]
    excluded += ["Masks/a.png", "a_attribute_globules.png", "thumbs/a.jpg", "b/a.thumb.jpg", "._labels.csv"]
    excluded += [f"IMD003_{part}/IMD003.bmp" for part in ("lesion", "roi")]
    hidden = [".ipynb_checkpoints/a.jpg", "b/.git/a.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg", "$RECYCLE.BIN/a.jpg"]
    for name in [*names, *excluded, *hidden, "notes.txt", ".notes.txt", "a.avif", "b/labels_mask.csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    folder = list_folder(tmp_path)
    assert folder.images == tuple(sorted(names)) and folder.ignored == (".avif",)
    assert folder.tables == ("b/labels_mask.csv",)  # a table is no mask
    folder.note_left_out()
    notes = re.sub(r" in [^;\s]+", "", capsys.readouterr().err)
    assert notes == (
        "left out: 3 folders of other programs, 3 hidden files, 2 hidden folders, 7 segmentation masks, 3 thumbnails\n"
        "not read: 1 .avif; convert such images to .jpg or .png\n"
    )
