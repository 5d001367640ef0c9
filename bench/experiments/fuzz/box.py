"""The folder in which commands run: a copy of the fixture with victim files around it, restored after every input."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from experiments.fuzz.case import Case, Content, Fifo, Folder, Link, Sparse

# Programs that a disguised image or model could start: each writes a file that shows it.
PROGRAMS = ("gs", "gswin64c", "convert", "rsvg-convert", "inkscape", "pdftoppm", "djpeg", "adb", "xdg-open")
State = dict[str, tuple[int, int, int, int]]


class Box:
    """`work` is the folder in which commands run, next to victim files, the home folder and the temporary folder."""

    def __init__(self, folder: Path, fixture: Path) -> None:
        self.root, self.work, self.fixture = folder, folder / "work", fixture
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(fixture, self.work, symlinks=True)
        for name in ("victim.txt", "home/victim.txt", "tmp/victim.txt", "work/victim.txt"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("must stay as it is\n")
        for name in ("bin", "work/out"):
            (folder / name).mkdir()
        for name in PROGRAMS:
            (folder / "bin" / name).write_text(f"#!/bin/sh\ntouch {folder}/executed-{name}\n")
            (folder / "bin" / name).chmod(0o755)
        self._clean = self._state()

    @property
    def environment(self) -> dict[str, str | None]:
        """Environment variables that keep commands inside the box."""
        path = f"{self.root / 'bin'}:{os.environ.get('PATH', '')}"
        home, temporary = str(self.root / "home"), str(self.root / "tmp")
        return {"HOME": home, "TMPDIR": temporary, "XDG_RUNTIME_DIR": temporary, "PATH": path, "SKINEDGE_SHIPPED": "",
                "XDG_CACHE_HOME": f"{home}/.cache", "XDG_STATE_HOME": f"{home}/.state", "OMP_NUM_THREADS": "1",
                "MPLCONFIGDIR": str(self.root.parent / "matplotlib"),
                "SKINEDGE_CACHE": str(self.root.parent / "cache"),  # kept between inputs
                "SKINEDGE_DEBUG": None, "WORLD_SIZE": None, "RANK": None}  # fmt: skip

    def put(self, files: Mapping[str, Content]) -> None:
        """Write an input's files."""
        for name, content in files.items():
            path = self.work / name
            _remove(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, Link):
                path.symlink_to(content.target)
            elif isinstance(content, Sparse):
                with path.open("wb") as stream:
                    stream.truncate(content.size)
            elif isinstance(content, Fifo):
                os.mkfifo(path)
            elif isinstance(content, Folder):
                path.mkdir()

    def outside(self, case: Case) -> list[str]:
        """Return the paths that were changed and that neither the input nor its command may write."""
        allowed = tuple(os.path.normpath(f"work/{name}") for name in (*case.files, *case.writes))
        return sorted(name for name in self._differing() if not _within(name, allowed))

    def restore(self) -> None:
        """Undo the changes of the input and its command."""
        differing = self._differing()
        for name in sorted(differing, key=len, reverse=True):
            if name not in self._clean:
                _remove(self.root / name)
        for name in sorted(differing & self._clean.keys(), key=len):
            self._restore(name)
            self._clean[name] = _about((self.root / name).lstat())

    def _differing(self) -> set[str]:
        now = self._state()
        return {name for name in now.keys() | self._clean.keys() if now.get(name) != self._clean.get(name)}

    def _restore(self, name: str) -> None:
        path = self.root / name
        if stat.S_ISDIR(self._clean[name][0]):
            if path.is_symlink() or not path.is_dir():
                _remove(path)
                path.mkdir(parents=True, exist_ok=True)
            path.chmod(stat.S_IMODE(self._clean[name][0]))
            return
        _remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        original = self.fixture / Path(name).relative_to("work") if name.startswith("work/") else path
        if original.exists() and original != path:
            shutil.copy2(original, path)
        else:
            path.write_text("must stay as it is\n")

    def _state(self) -> State:
        """Return path -> mode, size, modification time and inode of every file; of folders, only the mode."""
        state: State = {}
        pending, start = [str(self.root)], len(str(self.root)) + 1
        while pending:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    state[entry.path[start:]] = _about(entry.stat(follow_symlinks=False))
        return state


def _about(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what identifies a file and its content; of a folder, only the mode."""
    if stat.S_ISDIR(status.st_mode):
        return status.st_mode, 0, 0, 0
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino


def _within(name: str, allowed: tuple[str, ...]) -> bool:
    """Return True for an allowed path, and for paths below or above one."""
    return any(name == path or name.startswith(f"{path}/") or path.startswith(f"{name}/") for path in allowed)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
