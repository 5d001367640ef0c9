"""The phone's own library: the arm64 TFLite that the APK has, on emulated phone cores, says what LiteRT says here.

It is loaded unchanged, with stand-ins for Android's C library, and asked through its C API as the app asks it: XNNPACK,
one thread. Skipped, visibly, without emulator, AAR, or cross compiler. `make android-test` gets the emulator and asks
for all golden images; otherwise a few are judged.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pi.emulator import FOLDER

from skinedge.publish.android import choose
from skinedge.run import golden
from skinedge.run.run_directory import Bundle

FEW = 2
COUNT = None if os.environ.get("SKINEDGE_GOLDEN") == "all" else FEW
CORES = ("cortex-a53", "cortex-a72", "cortex-a76")  # the last has int8 dot products
LIBRARY = "libtensorflowlite_jni.so"
TREE = FOLDER / "trixie"
QEMU = FOLDER / "qemu-aarch64"
if not (QEMU.is_file() and TREE.is_dir()):
    pytest.skip("no emulator of arm64: make android-test", allow_module_level=True)


@dataclass(frozen=True)
class Phone:
    """judge: the program that asks a library; libraries: 'as packed' into the APK and 'as published' in the AAR."""

    judge: Path
    libraries: dict[str, Path]

    def run(self, core: str, library: Path, model: Path, images: bytes) -> subprocess.CompletedProcess[bytes]:
        """images: float32 tensors. Standard output: float32 tensors, likewise."""
        emulator = [QEMU, "-cpu", core, "-L", TREE, "-E", f"LD_LIBRARY_PATH={self.judge.parent}"]
        return subprocess.run([*emulator, self.judge, library, model], input=images, capture_output=True, check=False)


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Phone:
    from classes import native_library
    from downloads import pinned
    from elf import relaid
    from shim import AARCH64, COMPILERS, make_shim
    from steps import PROJECT, Unavailable, run, tool

    if not pinned("tflite")[0].path.is_file():
        pytest.skip("the AAR was not downloaded: make apk")
    folder = tmp_path_factory.mktemp("arm64")
    packed = folder / LIBRARY
    try:
        published = native_library("arm64-v8a")
        packed.write_bytes(relaid(published.read_bytes()))
        judge = make_shim(published, folder / "shim") / "judge"
        source = PROJECT / "desktop" / "bionic" / "judge.c"
        run([tool(*COMPILERS[AARCH64]), "-O1", "-Wall", "-Wextra", "-Werror", "-o", judge, source, "-ldl"])
    except Unavailable as reason:
        pytest.skip(str(reason))
    return Phone(judge, {"as packed": packed, "as published": published})


@pytest.mark.parametrize(
    ("core", "library"), [*((core, "as packed") for core in CORES), ("cortex-a53", "as published")]
)
def test_golden_images_get_the_answers_that_litert_gives_here(
    phone: Phone, flagship: Bundle, core: str, library: str
) -> None:
    """Heatmaps, which are made of integers, bit for bit; probabilities but for the rounding of a softmax in float."""
    from oracle import answers

    model = flagship.file(choose(flagship).path)
    pixels = golden.load(flagship.file("golden.npz")).pixels[:COUNT]
    probabilities, heatmaps = answers(model, pixels)
    done = phone.run(core, phone.libraries[library], model, pixels.astype(np.float32).tobytes())
    assert done.returncode == 0, done.stderr.decode()
    assert b"TFLite 2.16.1" in done.stderr and b"XNNPACK" in done.stderr
    said = np.frombuffer(done.stdout, np.float32).reshape(len(pixels), -1)
    found, drawn = np.split(said, [probabilities.shape[1]], axis=1)
    print(f"{core}, {library}: {len(pixels)} images, within {np.abs(found - probabilities).max():.1e}")
    np.testing.assert_allclose(found, probabilities, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(drawn, heatmaps.reshape(len(pixels), -1))
    assert np.ptp(found, axis=0).max() > 0.1, "all images look the same to it"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [("library", b"file too short"), ("model", b"this is no model"), ("image", b"the last image is cut off")],
)
def test_what_it_cannot_judge_is_an_error(
    phone: Phone, flagship: Bundle, tmp_path: Path, broken: str, reason: bytes
) -> None:
    """Else an answer of nothing could pass for one."""
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"\0" * 32)
    library = nothing if broken == "library" else phone.libraries["as packed"]
    model = nothing if broken == "model" else flagship.file(choose(flagship).path)
    done = phone.run("cortex-a53", library, model, bytes(100))
    assert done.returncode == 1 and reason in done.stderr and not done.stdout
