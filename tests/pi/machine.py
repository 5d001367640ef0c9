"""A Raspberry Pi without a Pi: Debian's arm64 Python and the base install's aarch64 wheels under qemu's user emulation.

Everything lies in one folder. An instruction that a core lacks stops the program there, so the emulation proves what
runs; it says nothing about how fast.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pi import emulator

from skinedge.core.errors import SkinedgeError

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHONS = {"3.11": "bookworm", "3.13": "trixie"}  # Pi OS is Debian's release with Debian's Python
CORES = {"cortex-a53": "Pi 3", "cortex-a72": "Pi 4", "cortex-a76": "Pi 5"}
PACKAGES = REPOSITORY / "bench" / "skinedge_bench" / "devices" / "on_host" / "requirements.txt"
WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
HERE = (
    "import os, sys\nsys.executable = os.environ['PI_PYTHON']\n"  # what starts another Python must start the emulator
)


@dataclass(frozen=True)
class Machine:
    """An emulated core with one Python, made by `prepare`. folder: where everything lies."""

    folder: Path
    python: str
    core: str

    @property
    def site(self) -> Path:
        """Where the base install is."""
        return self.folder / f"site-{self.python}"

    def finished(self, *arguments: str, where: Path) -> str:
        """What `python ARGUMENTS` prints in the folder `where`. Raises: SkinedgeError when it fails."""
        start = str(self.folder / f"python{self.python}")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(where),
            "QEMU_LD_PREFIX": str(self.folder / PYTHONS[self.python]),
            "QEMU_CPU": self.core,
            "PI_PYTHON": start,
            "PYTHONPATH": f"{self.folder / 'start'}:{self.site}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return finished(*arguments, where=where, start=[start], environment=environment)

    def installed(self) -> tuple[int, int]:
        """(bytes that the base install takes unpacked, and with the bytecode that Python keeps beside it)."""
        files = [path for path in self.site.rglob("*") if path.is_file()]
        code = [path for path in files if path.suffix == ".pyc"]
        total = sum(path.stat().st_size for path in files)
        return total - sum(path.stat().st_size for path in code), total


def prepare(folder: Path) -> list[Machine]:
    """Download and unpack what is not there yet, and install this repository's wheel into every Python.

    Raises: debian.Unreachable where Debian's archive cannot be had; SkinedgeError when the wheels cannot.
    """
    emulator.fetch(folder)
    for python, release in PYTHONS.items():
        start = folder / f"python{python}"
        start.write_text(f'#!/bin/sh\nexec "{folder}/qemu-aarch64" "{folder}/{release}/usr/bin/python{python}" "$@"\n')
        start.chmod(0o755)
    (folder / "start").mkdir(exist_ok=True)
    (folder / "start" / "sitecustomize.py").write_text(HERE)
    install(folder)
    return [Machine(folder, "3.13", core) for core in CORES] + [Machine(folder, "3.11", "cortex-a72")]


def install(folder: Path) -> None:
    """The base install as `bench --host` makes it: packages by their hashes, then this repository's wheel."""
    shutil.rmtree(folder / "wheel", ignore_errors=True)
    build = ["-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel")]
    finished(*build, where=REPOSITORY, start=[sys.executable])
    (wheel,) = (folder / "wheel").glob("*.whl")
    for python in PYTHONS:
        platforms = [word for name in WHEELS for word in ("--platform", name)]
        target = folder / f"site-{python}"
        pip = ["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--implementation", "cp", *platforms]
        options = ["--python-version", python, "--target", str(target), "--no-deps"]
        for wanted in (
            ["--require-hashes", "--requirement", str(PACKAGES)],
            ["--upgrade", "--force-reinstall", str(wheel)],
        ):
            finished(*pip, *options, *wanted, where=REPOSITORY, start=[sys.executable])


def finished(*arguments: str, where: Path, start: list[str], environment: dict[str, str] | None = None) -> str:
    """What a program prints, run in the folder `where`. Raises: SkinedgeError when it exits with anything but 0."""
    command = [*start, *arguments]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip()[-500:] or "nothing"
        raise SkinedgeError(f"'{' '.join(arguments[:3])}' exited with {done.returncode} and said: {said}")
    return done.stdout
