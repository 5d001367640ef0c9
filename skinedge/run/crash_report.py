"""Report an unexpected error: a short message on the screen, and a file with everything that a bug report needs."""

from __future__ import annotations

import contextlib
import datetime
import os
import shlex
import sys
from pathlib import Path

from skinedge import __version__
from skinedge.core.errors import SkinedgeError
from skinedge.core.files import expand_home
from skinedge.core.terminal import visible
from skinedge.system.progress import is_verbose

DEBUG = "SKINEDGE_DEBUG"  # environment variable; if not empty, the traceback is shown as well
PACKAGES = (
    "numpy",
    "pillow",
    "torch",
    "timm",
    "peft",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "litert-torch",
    "typer",
)
_runs: list[Path] = []  # used by this process, most recent last


def working_on(run: Path) -> None:
    """Record the current run, whose finished stages a crash report lists."""
    if run not in _runs[-1:]:
        _runs.append(run)


def report(error: BaseException) -> str:
    """Write the crash file. Returns: the lines to show instead of the traceback."""
    text = crash_text(error)
    what = f"unexpected {type(error).__name__}" + (f": {first_line(error)}" if str(error) else "")
    try:
        lines = [what, f"This is a bug in skinedge. Please report it with {write(text)} (contains your file names)."]
    except OSError as problem:
        lines = [what, f"This is a bug in skinedge. The crash report could not be written ({problem}):\n{text}"]
    lines += finished_stages()
    if debugging():
        lines.append(text)
    return "\n".join(lines)


def debugging() -> bool:
    """Return True if tracebacks are shown: with SKINEDGE_DEBUG or --verbose."""
    return bool(os.environ.get(DEBUG)) or is_verbose()


def notes(error: BaseException) -> list[str]:
    """Return the tracebacks attached to an error, if they are shown."""
    return list(getattr(error, "__notes__", ())) if debugging() else []


def first_line(error: BaseException) -> str:
    """Return the first line of the error's message, at most 300 characters."""
    return visible(str(error).splitlines()[0][:300]) if str(error).splitlines() else ""


def crash_text(error: BaseException) -> str:
    """Return the crash file's content: versions, platform, command line and traceback."""
    import platform
    import traceback
    from importlib import metadata

    versions = [f"skinedge {__version__}", f"Python {sys.version}"]
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    head = [*versions, platform.platform(), f"$ {visible(shlex.join(sys.argv))}", f"in {visible(_current_folder())}"]
    trace = "".join(traceback.format_exception(error))
    return "\n".join([*head, "", *(visible(line) for line in trace.splitlines())]) + "\n"


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a folder that no longer exists"


def write(text: str) -> Path:
    """Write a new file that only its owner can read, in the user's state folder, else in the temporary folder.

    Raises: OSError when both fail.
    """
    import tempfile

    name = f"crash-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{os.urandom(4).hex()}.txt"
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or expand_home("~/.local/state")) / "skinedge"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _create(state / name, text)
    except (OSError, SkinedgeError):
        return _create(Path(tempfile.gettempdir()) / f"skinedge-{name}", text)


def _create(path: Path, text: str) -> Path:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
        stream.write(text.encode(errors="backslashreplace"))
    return path


def finished_stages() -> list[str]:
    """Return a line that names the finished stages of the most recent run; [] if there are none."""
    from skinedge.run.manifest import MANIFEST, Manifest

    for run in reversed(_runs):
        with contextlib.suppress(SkinedgeError, OSError):
            stages = Manifest.read(run / MANIFEST).stages
            return [f"Finished stages of {visible(run)} are kept: {visible(', '.join(stages))}."] if stages else []
    return []
