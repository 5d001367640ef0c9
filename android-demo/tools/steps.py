"""What the steps of the build share: places, versions, other programs, and how to leave out what is already done."""

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
SHOWN = 20  # lines of either end of what a program said that failed
JDK = "openjdk-17-jdk-headless"  # the Debian package


class BuildError(SkinedgeError):
    """A step of the build that failed."""


class Unavailable(SkinedgeError):
    """A tool that this machine has not: the step that needs it cannot be done here."""


def tool(name: str, package: str) -> str:
    """Path of an installed program. Raises: Unavailable, with the Debian package that has it."""
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"the program '{name}' is not installed", todo=f"On Debian: apt-get install {package}")
    return found


def run(command: Sequence[str | Path], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program; returns what it wrote to standard output.

    Raises: BuildError with the beginning and the end of its output when it fails.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        shown = said if len(said) <= 2 * SHOWN else [*said[:SHOWN], "...", *said[-SHOWN:]]
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
    """Run a Java program; likewise. flags: more options for the JVM."""
    joined = ":".join(str(path) for path in classpath)
    # Short-lived programs on few cores: the quick compiler and the plain collector cost least.
    frugal = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Xmx{memory}")
    return run([tool("java", JDK), *frugal, *flags, "-cp", joined, main, *arguments], env=env)


def emptied(folder: Path) -> Path:
    """The folder, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def files_under(*places: Path) -> list[Path]:
    """The named files, and all files below the named folders, sorted."""
    return sorted(
        path for place in places for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()
    )


class Stamp:
    """Whether `out` was made from these very inputs: their digest is kept beside it, written once `out` is complete."""

    def __init__(self, out: Path, inputs: Iterable[Path], *settings: str) -> None:
        self._out = out
        self._place = out.with_name(f"{out.name}.made-from")
        digest = hashlib.sha256("\0".join(settings).encode())
        for path in inputs:
            digest.update(f"\0{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        self._digest = digest.hexdigest()

    def is_current(self) -> bool:
        return self._out.exists() and self._place.exists() and self._place.read_text() == self._digest

    def set(self) -> None:
        self._place.write_text(self._digest)
