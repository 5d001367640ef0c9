"""TensorFlow's environment, created on first use; its pinned packages conflict with ours.

Its folder is in SKINEDGE_CACHE, else XDG_CACHE_HOME/skinedge, else ~/.cache/skinedge, and is named after its pins and
Python version, so other pins create another one. A removed folder is created again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from skinedge.core.errors import SkinedgeError
from skinedge.core.files import cache_folder, disk_error
from skinedge.system.child_process import run_program
from skinedge.system.progress import note

PINS = Path(__file__).with_name("pins.txt")
HASHES = Path(__file__).with_name("hashes.txt")  # the pins with the sha256 of each package's files, from `make hashes`
PYTHONS = ("3.12", "3.11")  # versions for which the pins have wheels
SPACE = 2_500_000_000  # bytes: 1.6e9 for the environment, the rest for pip's temporary files
WITHOUT = "Without --converter, the format's own converter makes the file."


def interpreter() -> Path:
    """Return the environment's Python; creates the environment if it does not exist.

    Raises: SkinedgeError if no Python fits the pins, they cannot be installed, or the disk is full.
    """
    version, base = base_python()
    digest = hashlib.sha256(HASHES.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"onnx2tf-{digest}-py{version}"
    python = Path("bin") / "python"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{folder.name}.lock"):
            if not folder.is_dir():
                _make(folder, base, python)
    except OSError as error:
        raise disk_error(error, folder) from None
    return folder / python


def base_python() -> tuple[str, Path]:
    """Return a version in PYTHONS and its interpreter: this one, else one on PATH.

    Raises: SkinedgeError if there is none.
    """
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if own in PYTHONS:
        return own, Path(sys.executable)
    for version in PYTHONS:
        path = shutil.which(f"python{version}")
        if path and _version(path) == version:  # a version manager's shim may exist without its Python
            return version, Path(path)
    raise SkinedgeError(
        f"onnx2tf needs Python {' or '.join(PYTHONS)}; this is {own}, and none of them is on PATH",
        todo=f"Install one of them. {WITHOUT}",
    )


def _version(python: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = run_program([python, "-I", "-c", code])
    return done.stdout.strip()


def _make(folder: Path, base: Path, python: Path) -> None:
    """Create the environment under another name, so that a folder with its name is always complete."""
    free = shutil.disk_usage(folder.parent).free
    if free < SPACE:
        raise SkinedgeError(
            f"onnx2tf's environment needs {SPACE / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            where=str(folder.parent),
            todo=f"Free some space, or name another folder in SKINEDGE_CACHE. {WITHOUT}",
        )
    note(f"onnx2tf: installing it and TensorFlow into {folder} (once; 1.6 GB, some minutes) ...")
    part = folder.parent / f"{folder.name}.part"
    shutil.rmtree(part, ignore_errors=True)  # left by a killed process
    try:
        _run([str(base), "-m", "venv", str(part)], "make an environment for onnx2tf")
        pip = [str(part / python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"]
        _run([*pip, "--require-hashes", "--requirement", str(HASHES)], "install onnx2tf and TensorFlow")
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _run(command: list[str], action: str) -> None:
    done = run_program(command, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()] or ["no message"]
        message = next((line for line in lines if line.startswith(("ERROR", "Error"))), lines[-1])
        raise SkinedgeError(
            f"cannot {action}: {message[:300]}",
            todo=f"It needs a package registry in reach and free disk space; then run the command again. {WITHOUT}",
        )
