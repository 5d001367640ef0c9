"""The pieces of the offline build that need no Java: downloads by hash, alignment, 16 KiB pages, missing tools."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from pathlib import Path

import pytest


def test_a_file_with_another_hash_is_removed_and_never_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import downloads
    from steps import BuildError

    right, wrong = (
        downloads.Artifact("a:right:1", hashlib.sha256(b"right").hexdigest()),
        downloads.Artifact("a:wrong:1", "0"),
    )
    monkeypatch.setattr(downloads, "FOLDER", tmp_path)
    for artifact in (right, wrong):
        artifact.path.write_bytes(b"right")
    monkeypatch.setattr(downloads, "pinned", lambda group: [right])
    assert downloads.fetch("any") == [right.path]
    monkeypatch.setattr(downloads, "pinned", lambda group: [right, wrong])
    with pytest.raises(BuildError, match="not the pinned 0"):
        downloads.fetch("any")
    assert right.path.exists() and not wrong.path.exists()


def test_what_maven_cannot_get_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import downloads
    from steps import Unavailable

    monkeypatch.setattr(downloads, "FOLDER", tmp_path)
    monkeypatch.setattr(downloads, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="'mvn' is not installed") as raised:
        downloads.fetch("junit")
    assert "apt-get install maven" in str(raised.value)


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    from steps import BuildError, run

    with pytest.raises(BuildError, match="exit code 3") as raised:
        run(["sh", "-c", "echo the reason >&2; exit 3"])
    assert "the reason" in str(raised.value)


def test_a_stamp_knows_what_a_file_was_made_from(tmp_path: Path) -> None:
    from steps import Stamp

    source, out = tmp_path / "source", tmp_path / "out"
    source.write_text("one")
    stamp = Stamp(out, [source], "-flag")
    assert not stamp.is_current()
    out.write_text("made")
    assert not stamp.is_current()  # complete only once it is stamped
    stamp.set()
    assert Stamp(out, [source], "-flag").is_current()
    assert not Stamp(out, [source], "-other").is_current()
    source.write_text("two")
    assert not Stamp(out, [source], "-flag").is_current()


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    path = tmp_path / "linked.apk"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("AndroidManifest.xml", b"manifest" * 20, zipfile.ZIP_DEFLATED)
        package.writestr("resources.arsc", b"table", zipfile.ZIP_STORED)
    return path


def test_what_android_maps_is_stored_and_aligned(monkeypatch: pytest.MonkeyPatch, linked: Path, tmp_path: Path) -> None:
    import packing

    monkeypatch.setattr(packing, "BUILD", tmp_path)
    added = {"lib/arm64-v8a/libx.so": b"elf", "assets/m.tflite": b"model", "classes.dex": b"dex" * 50}
    first = packing.pack(linked, added).read_bytes()
    assert packing.pack(linked, dict(reversed(added.items()))).read_bytes() == first
    with zipfile.ZipFile(tmp_path / "unsigned.apk") as apk:
        assert {entry.filename: apk.read(entry) for entry in apk.infolist()}.items() >= added.items()
        for name in ("lib/arm64-v8a/libx.so", "assets/m.tflite", "resources.arsc"):
            entry = apk.getinfo(name)
            assert entry.compress_type == zipfile.ZIP_STORED
            sizes = struct.unpack_from("<HH", first, entry.header_offset + 26)
            assert (entry.header_offset + 30 + sum(sizes)) % (16384 if name.endswith(".so") else 4) == 0
        assert apk.getinfo("classes.dex").compress_type == zipfile.ZIP_DEFLATED


def library(data_address: int) -> bytes:
    """A 64-bit ELF with code at 0 and two writable segments, the second moved by a page of 4 KiB in the file."""
    header = bytearray(64)
    header[:5] = b"\x7fELF\x02"
    struct.pack_into("<QQ", header, 32, 64, 0x3000)
    struct.pack_into("<HHHH", header, 54, 56, 3, 64, 0)
    second = data_address + 0x2800
    segments = [
        (1, 5, 0, 0, 0, 0x400, 0x400, 0x1000),
        (1, 6, data_address, data_address, data_address, 0x100, 0x100, 0x1000),
        (1, 6, data_address + 0x800, second, second, 0x20, 0x40, 0x1000),
    ]
    body = bytes(header) + b"".join(struct.pack("<IIQQQQQQ", *segment) for segment in segments)
    body += bytes(data_address - len(body)) + b"A" * 0x100
    return body + bytes(data_address + 0x800 - len(body)) + b"B" * 0x20 + b"tail"


def test_a_library_is_laid_out_anew_with_every_byte_at_its_address() -> None:
    from elf import load_alignments, relaid

    before = library(0x4000)
    after = relaid(before)
    assert load_alignments(before) == {0x1000} and load_alignments(after) == {0x4000}
    assert after[0x4000:0x4100] == b"A" * 0x100 and after[0x6800:0x6820] == b"B" * 0x20 and after.endswith(b"tail")
    assert set(after[0x4100:0x6800]) == {0}
    assert relaid(after) == after


@pytest.mark.parametrize("broken", [b"text", b"\x7fELF\x01" + bytes(100), library(0x5000)])
def test_what_cannot_be_laid_out_is_refused(broken: bytes) -> None:
    from elf import relaid
    from steps import BuildError

    with pytest.raises(BuildError):
        relaid(broken)


@pytest.mark.parametrize("abi", ["mips", "arm64"])
def test_an_unknown_abi_is_refused_before_anything_is_built(abi: str) -> None:
    import apk

    from skinedge.core.errors import ConfigError

    with pytest.raises(ConfigError, match="unknown ABI") as raised:
        apk.build([abi])
    assert "arm64-v8a" in str(raised.value)
