"""What `make apk` built: signed, for the right phones, with the exporter's model, and without a way to the network.

SKINEDGE_APK names the APK; without, there is nothing to judge. Each claim is read back from the APK by another tool
than the one that wrote it, where there is one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from skinedge.core.files import sha256

APK = Path(os.environ.get("SKINEDGE_APK", ""))
if not APK.is_file():
    pytest.skip("no APK was built: make apk", allow_module_level=True)

MOST_MB = 15  # for one ABI
PAGE = 16384


def output(*command: str | Path) -> str:
    """What a program says; the test is skipped, visibly, where it is not installed."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def content() -> dict[str, bytes]:
    with zipfile.ZipFile(APK) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        return {name: archive.read(name) for name in names}


@pytest.fixture(scope="module")
def badging() -> str:
    return output("aapt2", "dump", "badging", APK)


def abis(content: dict[str, bytes]) -> set[str]:
    return {name.split("/")[1] for name in content if name.startswith("lib/")}


def test_it_is_signed_as_android_7_and_later_want_it() -> None:
    said = output("apksigner", "verify", "--verbose", "--min-sdk-version", "24", APK)
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in said
    assert "Verified using v3 scheme (APK Signature Scheme v3): true" in said


def test_it_says_for_whom_it_is(badging: str, content: dict[str, bytes]) -> None:
    assert re.search(r"^package: name='org.skinedge.demo' versionCode='1' versionName='0.1.0'", badging)
    assert "sdkVersion:'24'" in badging and "targetSdkVersion:'35'" in badging
    assert "launchable-activity: name='org.skinedge.demo.MainActivity'" in badging
    assert "application-debuggable" in badging  # as `skinedge bench --adb` needs it
    (codes,) = re.findall(r"^native-code: (.*)$", badging, re.MULTILINE)
    assert set(re.findall("'([^']+)'", codes)) == abis(content)


def test_it_cannot_reach_the_network() -> None:
    asked = re.findall(r"uses-permission: name='([^']+)'", output("aapt2", "dump", "permissions", APK))
    assert "android.permission.INTERNET" not in asked
    assert set(asked) <= {"android.permission.CAMERA"}


def test_it_is_small(content: dict[str, bytes]) -> None:
    megabytes = APK.stat().st_size / 1e6
    print(f"{megabytes:.2f} MB for {', '.join(sorted(abis(content)))}")
    assert megabytes < MOST_MB * len(abis(content))


def test_what_is_mapped_lies_stored_on_its_page(content: dict[str, bytes]) -> None:
    raw = APK.read_bytes()
    with zipfile.ZipFile(APK) as archive:
        mapped = [entry for entry in archive.infolist() if entry.filename.endswith((".so", ".tflite", ".arsc"))]
    assert {Path(entry.filename).suffix for entry in mapped} == {".so", ".tflite", ".arsc"}
    for entry in mapped:
        sizes = struct.unpack_from("<HH", raw, entry.header_offset + 26)
        at = entry.header_offset + 30 + sum(sizes)
        assert entry.compress_type == zipfile.ZIP_STORED, entry.filename
        assert at % (PAGE if entry.filename.endswith(".so") else 4) == 0, entry.filename
        assert raw[at : at + entry.file_size] == content[entry.filename]


def test_zipalign_agrees() -> None:
    output("zipalign", "-c", "-p", "4", APK)


def test_the_64_bit_arm_library_runs_on_pages_of_16_kib(content: dict[str, bytes]) -> None:
    from elf import load_alignments

    libraries = {name.split("/")[1]: load_alignments(data) for name, data in content.items() if name.endswith(".so")}
    assert all(min(alignments) >= 4096 for alignments in libraries.values())
    assert min(libraries.get("arm64-v8a", {PAGE})) >= PAGE


def test_the_libraries_are_the_pinned_ones(content: dict[str, bytes]) -> None:
    """Laid out anew, but every byte of code and data that the AAR has is there, at the same address."""
    from classes import native_library

    for abi in abis(content):
        before = native_library(abi).read_bytes()
        after = content[f"lib/{abi}/libtensorflowlite_jni.so"]
        assert in_memory(after) == in_memory(before) if abi == "arm64-v8a" else after == before


def in_memory(library: bytes) -> bytes:
    """What the segments of a 64-bit library make of memory, from address 4096 on: before are the headers."""
    table, count = struct.unpack_from("<Q", library, 32)[0], struct.unpack_from("<H", library, 56)[0]
    image = bytearray()
    for index in range(count):
        kind, _, offset, address, _, size, memory, _ = struct.unpack_from("<IIQQQQQQ", library, table + 56 * index)
        if kind == 1:
            image.extend(bytes(max(0, address + memory - len(image))))
            image[address : address + size] = library[offset : offset + size]
    return bytes(image[4096:])


def test_model_and_labels_are_the_exporters(content: dict[str, bytes], tmp_path: Path) -> None:
    (card_name,) = [name for name in content if name.endswith(".skinedge.json")]
    card = json.loads(content[card_name])
    model = tmp_path / card["file"]
    model.write_bytes(content[f"assets/{card['file']}"])
    assert sha256(model) == card["sha256"]
    assert [row["index"] for row in card["classes"]] == list(range(len(card["classes"])))
    labels = [content for name, content in zip_members(model) if "label" in name]
    assert labels and all(text.decode().split() == [row["label"] for row in card["classes"]] for text in labels)


def zip_members(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_every_framework_member_exists_on_the_oldest_android() -> None:
    from sniffer import check_api
    from steps import BUILD, Unavailable

    try:
        check_api(BUILD / "app.jar")
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_a_member_that_old_phones_lack_is_found(tmp_path: Path) -> None:
    """As the check above would: `List.of` came with API 34."""
    from sniffer import check_api
    from steps import BuildError, Unavailable

    source = tmp_path / "Young.java"
    source.write_text("class Young { Object list = java.util.List.of(1); }")
    output("javac", "--release", "9", "-d", tmp_path / "classes", source)
    output("jar", "--create", "--file", tmp_path / "young.jar", "-C", tmp_path / "classes", ".")
    try:
        with pytest.raises(BuildError, match=r"List\.of|List of"):
            check_api(tmp_path / "young.jar")
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_the_same_sources_give_the_same_bytes(
    content: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apk

    monkeypatch.delenv("SKINEDGE_SHIPPED")  # set by tests/conftest.py
    again = apk.build(sorted(abis(content)), os.environ.get("SKINEDGE_DEXER") or None, tmp_path / "again.apk")
    assert again.read_bytes() == APK.read_bytes()
