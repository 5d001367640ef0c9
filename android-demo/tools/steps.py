"""Shared parts of the build: paths, versions, running programs, and skipping steps that are up to date."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from skinedge.core.errors import SkinedgeError

PROJECT = Path(__file__).resolve().parents[1]  # android-demo
CACHE = PROJECT.parent / ".cache" / "android"
BUILD = CACHE / "build"
CATALOG = tomllib.loads((PROJECT / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))
MIN_SDK = CATALOG["versions"]["minSdk"]
TARGET_SDK = CATALOG["versions"]["targetSdk"]
PACKAGE = "org.skinedge.demo"
SHOWN = 20  # lines shown from each end of a failed program's output
JDK = "openjdk-17-jdk-headless"  # the Debian package


class BuildError(SkinedgeError):
    """A step of the build that failed."""


class Unavailable(SkinedgeError):
    """A tool is missing on this machine, so that a step cannot run."""


def tool(name: str, package: str) -> str:
    """Return the path of an installed program. Raises: Unavailable, with the Debian package to install."""
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"the program '{name}' is not installed", todo=f"On Debian: apt-get install {package}")
    return path


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program and return its standard output.

    Raises: BuildError with the beginning and the end of its output when it fails.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        shown = lines if len(lines) <= 2 * SHOWN else [*lines[:SHOWN], "...", *lines[-SHOWN:]]
        raise BuildError("\n".join([f"{Path(words[0]).name} failed with exit code {done.returncode}:", *shown]))
    return done.stdout


def java(
    classpath: Iterable[Path],
    main: str,
    *arguments: str | Path,
    memory: str = "1500m",
    flags: Sequence[str] = (),
    env: dict[str, str] | None = None,
) -> str:
    """Run a Java program like `run`. flags: more options for the JVM."""
    joined = ":".join(str(path) for path in classpath)
    # Fastest for short-lived programs on few cores: the first-tier compiler and the serial collector.
    frugal = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Xmx{memory}")
    return run([tool("java", JDK), *frugal, *flags, "-cp", joined, main, *arguments], env=env)


def emptied(folder: Path) -> Path:
    """Remove a folder's content, create it if needed, and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def files_under(*roots: Path) -> list[Path]:
    """Return the given files and all files below the given folders, sorted."""
    return sorted(path for root in roots for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file())


class Stamp:
    """Tells whether `out` is up to date: the digest of its inputs is stored next to it once `out` is complete."""

    def __init__(self, out: Path, inputs: Iterable[Path], *settings: str) -> None:
        self._out = out
        self._path = out.with_name(f"{out.name}.made-from")
        digest = hashlib.sha256("\0".join(settings).encode())
        for path in inputs:
            digest.update(f"\0{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        self._digest = digest.hexdigest()

    def is_current(self) -> bool:
        return self._out.exists() and self._path.exists() and self._path.read_text() == self._digest

    def set(self) -> None:
        self._path.write_text(self._digest)
