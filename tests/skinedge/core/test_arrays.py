"""Malicious and damaged .npz archives: refused in one line, before an array is allocated."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from skinedge.core import arrays
from skinedge.core.arrays import open_arrays
from skinedge.core.errors import BundleError, DataError
from skinedge.core.zip_file import open_zip, read_member
from skinedge.data.dataset import archive_images
from skinedge.data.readers import read
from skinedge.run.golden import Golden, load, save


def header(descr: str, shape: str) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def golden_file(path: Path) -> Path:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    sources = {0: rng.integers(0, 256, (9, 11, 3)).astype(np.uint8), 2: pixels[2]}
    save(path, Golden(pixels, sources, rng.normal(size=(4, 3)).astype(np.float32)))
    return path


def medmnist_file(path: Path) -> Path:
    rng, written = np.random.default_rng(0), {}
    for split in ("train", "val", "test"):
        written[f"{split}_images"] = rng.integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
        written[f"{split}_labels"] = np.arange(7, dtype=np.uint8)[:, None]
    np.savez_compressed(path, **written)
    return path


@pytest.mark.parametrize(
    ("descr", "shape", "data"),
    [
        ("'|u1'", "(1000000000000,)", b"few"),
        ("'|u1'", "(-1,)", b"few"),
        ("'|u1'", "(0, 1000000000000000000000)", b""),
        ("'<f4'", "(2,)", bytes(7)),
        ("'<f4'", "(2,)", bytes(9)),
        ("'|O'", "(1,)", b"cos\nsystem\n."),
        ("[('a', '<f4')]", "(2,)", bytes(8)),
        ("'<U1000000000'", "(1,)", bytes(4)),
        ("'<f4'", "(2.0,)", bytes(8)),
        ("'<f4'", "((2,),)", bytes(8)),
        ("'" + "(" * 60 + "'", "()", b""),
        ("(" * 90, "()", b""),
        ("'<c8'", "(1,)", bytes(8)),
        ("'<U0'", "(1000000000000,)", b""),
    ],
)
def test_header_is_checked_against_member_size_before_allocating(
    tmp_path: Path, descr: str, shape: str, data: bytes
) -> None:
    path = archive(tmp_path / "a.npz", {"a.npy": header(descr, shape) + data})
    with (
        pytest.raises(BundleError, match="not arrays, or a damaged one") as raised,
        open_arrays(path, BundleError, "arrays") as opened,
    ):
        opened.read("a", "biufU", 1, 2)
    assert "\n" not in str(raised.value)


def test_valid_arrays_are_read_back(tmp_path: Path) -> None:
    written = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(["x", "yz"]),
        "c": np.zeros((0, 3), "i8"),
    }
    for save_arrays in (np.savez, np.savez_compressed):
        save_arrays(tmp_path / "a.npz", **written)
        with open_arrays(tmp_path / "a.npz", BundleError, "arrays") as opened:
            assert opened.names == ("a", "b", "c")
            for name, array in written.items():
                np.testing.assert_array_equal(opened.read(name, "iufU", 1, 2), array)
            with pytest.raises(ValueError, match=r"'a' is float32 \(2, 3\)"):
                opened.read("a", "iu", 2)
            with pytest.raises(ValueError, match=r"'a' is float32 \(2, 3\)"):
                opened.read("a", "f", 1)


def bomb(path: Path) -> Path:
    """Write a zip bomb: a part, just over the limit, of the case found by fuzzing (3.3 MB unpack to 3.7 GiB)."""
    return large(path, "(300, 1024, 1024)", [bytes(1 << 20)] * 300)


def large(path: Path, shape: str, parts: Iterable[bytes]) -> Path:
    """Write an archive of one array of bytes, part by part."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened,
        opened.open("train_images.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(header("'|u1'", shape))
        for part in parts:
            stream.write(part)
    return path


def test_zip_bomb_is_refused_without_using_memory(tmp_path: Path) -> None:
    path = bomb(tmp_path / "dermamnist.npz")
    assert path.stat().st_size < 5_000_000
    code = (
        "import sys\nfrom pathlib import Path\nfrom skinedge.data.dataset import archive_images\n"
        "from skinedge_bench.latency.probe import peak_rss_mib\n"
        "try: archive_images(Path(sys.argv[1]), 'train')\nexcept Exception as error: print(error)\n"
        "print(int(peak_rss_mib()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    message, mib = done.stdout.strip().splitlines()
    assert message.endswith("(its arrays are too large for a file of this size)") and int(mib) < 200


def test_large_archive_of_photos_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed file larger than FREE_BYTES, half of it black, like MedMNIST's at 224 pixels (1.5 GB unpacked)."""
    monkeypatch.setattr(arrays, "FREE_BYTES", 1 << 20)
    images = np.random.default_rng(0).integers(0, 64, (20, 224, 224, 3), dtype=np.uint8)
    images[:, :112] = 0
    path = large(tmp_path / "large.npz", str(images.shape), (image.tobytes() for image in images))
    assert images.nbytes > arrays.FREE_BYTES
    np.testing.assert_array_equal(archive_images(path, "train"), images)


def changed_zip(path: Path, rng: random.Random) -> bytes:
    """Return the file with changed bytes (anywhere or in the directory), cut, or with a copied piece inserted."""
    data = bytearray(path.read_bytes())
    kind = rng.choice(["bits", "directory", "cut", "splice"])
    if kind == "cut":
        return bytes(data[: rng.randrange(len(data))])
    if kind == "splice":
        start, to = rng.randrange(len(data)), rng.randrange(len(data))
        data[to:to] = data[start : start + rng.randrange(1, 64)]
        return bytes(data)
    start = data.index(b"PK\1\2") if kind == "directory" else 0
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(start, len(data))] = rng.randrange(256)
    return bytes(data)


def test_mutated_archives_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    rng, refused = random.Random(14), 0
    golden_path, medmnist_path = golden_file(tmp_path / "golden.npz"), medmnist_file(tmp_path / "dermamnist.npz")
    for case in range(300):
        broken = tmp_path / "broken" / f"dermamnist_{case}.npz"
        broken.parent.mkdir(exist_ok=True)
        try:
            if case % 2:
                broken.write_bytes(changed_zip(golden_path, rng))
                assert load(broken).pixels.shape == (4, 8, 8, 3)
            else:
                broken.write_bytes(changed_zip(medmnist_path, rng))
                read(broken)
        except (BundleError, DataError) as error:
            assert error.where is not None and "\n" not in error.what, case
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    "changed",
    [
        {"logits": np.zeros((4, 3), np.complex64)},
        {"logits": np.full((4, 3), np.nan, np.float32)},
        {"logits": np.zeros((3, 3), np.float32)},
        {"logits": np.zeros(4, np.float32)},
        {"pixels": np.zeros((4, 8, 8), np.uint8)},
        {"pixels": np.zeros((4, 8, 9, 3), np.uint8)},
        {"pixels": np.zeros((4, 8, 8, 3), np.uint16)},
        {"pixels": np.zeros((0, 8, 8, 3), np.uint8)},
        {"source_index": np.array([0, 9])},
        {"source_index": np.array([0, 0])},
        {"source_index": np.array([0])},
        {"source_index": np.array([[0], [1]])},
        {"source_01": np.zeros((0, 9, 3), np.uint8)},
        {"source_01": np.zeros((9, 9), np.uint8)},
        {"other": np.zeros(1)},
    ],
)
def test_inconsistent_golden_arrays_are_refused(tmp_path: Path, changed: dict[str, np.ndarray]) -> None:
    path = golden_file(tmp_path / "golden.npz")
    with np.load(path) as opened:
        content = {**{name: opened[name] for name in opened.files}, **changed}
    np.savez(path, **content)
    with pytest.raises(BundleError, match="not a file of golden vectors"):
        load(path)


def test_zip_members_are_read_up_to_a_size_limit(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.txt": bytes(5000), "b.txt": b"text"})
    with open_zip(path, BundleError, "a test") as opened:
        assert read_member(opened, "b.txt", 4) == b"text"
    with (
        pytest.raises(BundleError, match=r"'a\.txt' is larger than the limit of 4999 bytes"),
        open_zip(path, BundleError, "a test") as opened,
    ):
        read_member(opened, "a.txt", 4999)


def test_malicious_zip_directories_are_refused(tmp_path: Path) -> None:
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as opened, pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr("a", b"1")
        opened.writestr("a", b"2")
    crowded = io.BytesIO()
    with zipfile.ZipFile(crowded, "w") as opened:
        for index in range(12_000):
            opened.writestr(f"{index:0>90}", b"")
    end = crowded.getvalue().rindex(b"PK\5\6")  # with the record's own signature in its fields for disk numbers
    decoy = io.BytesIO(crowded.getvalue()[: end + 4] + b"PK\5\6" + crowded.getvalue()[end + 8 :])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as opened:
        opened.writestr("a", bytes(100))
    large = "directory is too large"
    for content, reason in (
        (twice, "duplicate member"),
        (crowded, large),
        (decoy, large),
        (packed, "unsupported method"),
    ):
        path = tmp_path / "a.zip"
        path.write_bytes(content.getvalue())
        with pytest.raises(BundleError, match=reason), open_zip(path, BundleError, "a test"):
            pass


def test_excess_source_indices_are_refused_without_using_memory(tmp_path: Path) -> None:
    path = golden_file(tmp_path / "golden.npz")
    with np.load(path) as arrays_of_file:
        np.savez_compressed(path, **{**arrays_of_file, "source_index": np.zeros(2_000_000, np.int64)})
    tracemalloc.start()
    with pytest.raises(BundleError, match="not those of golden vectors"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
