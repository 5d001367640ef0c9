"""qemu's user emulation of arm64, and Debian's arm64 trees for what runs in it: downloaded once, into .cache/pi."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file

from pi import debian

from skinedge.system.progress import note

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "pi"
QEMU = "trixie"  # bookworm's crashes on onnxruntime and LiteRT
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
RELEASES = ("bookworm", "trixie")


def fetch(folder: Path) -> None:
    """Put what is not there yet into the folder: `qemu-aarch64`, and a tree by the name of each release.

    Raises: debian.Unreachable where Debian's archive cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "qemu-aarch64").is_file():
        debian.unpack(["qemu-user"], QEMU, debian.own_architecture(), folder / "qemu")
        shutil.copy2(folder / "qemu" / "usr" / "bin" / "qemu-aarch64", folder / "qemu-aarch64")
        shutil.rmtree(folder / "qemu")
    for release in RELEASES:
        if not (folder / release).is_dir():
            debian.unpack(PACKAGES, release, "arm64", folder / release)
        if not (folder / release / "lib").exists():
            (folder / release / "lib").symlink_to("usr/lib")


if __name__ == "__main__":
    try:
        fetch(FOLDER)
    except debian.Unreachable as error:
        note(f"SKIPPED: arm64 cannot be emulated here: {error}")
