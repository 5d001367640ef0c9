"""One input of the campaign: files to write, a command to run, and its permitted effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Sparse:
    """A file of `size` zero bytes that takes no space."""

    size: int


@dataclass(frozen=True)
class Fifo:
    """A named pipe without a writer."""


@dataclass(frozen=True)
class Folder:
    """An empty folder."""


Content = bytes | Link | Sparse | Fifo | Folder | None  # None: remove the file


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    code: its exit code, None with a `failure`; failure: '' | 'traceback' | 'crash' | 'hang'; peak_mib: peak resident
    memory, of the command or of its largest child process; torch: it imported torch; seconds: CPU time in a reused
    child process, else wall time; opened: the files that it opened, if they were recorded.
    """

    code: int | None
    stdout: bytes
    stderr: bytes
    failure: str = ""
    peak_mib: float = 0.0
    torch: bool = False
    seconds: float = 0.0
    opened: frozenset[str] = frozenset()


Judge = Callable[[Outcome, Outcome, Path], str | None]


@dataclass(frozen=True)
class Case:
    """One input, or several for one command.

    kind: row of the table; argv: arguments of `skinedge`; files: path below the working folder -> content; writes:
    files and folders that the command may change; guarded: files whose hash the manifest lists: a command that reads
    them must refuse them; judge: returns what is wrong with an accepted result, from the outcome, the outcome without
    the mutation and the working folder; env: changes of the environment, None removes a variable; torch: the command
    may import torch; fresh: run in a new process; encoding: of standard output; request: bytes to send to the web
    server instead of a command; inputs: number of mutated inputs.
    """

    kind: str
    argv: tuple[str, ...] = ()
    files: Mapping[str, Content] = field(default_factory=dict)
    writes: tuple[str, ...] = ("out",)
    guarded: tuple[str, ...] = ()
    judge: Judge | None = None
    env: Mapping[str, str | None] = field(default_factory=dict)
    torch: bool = False
    fresh: bool = False
    encoding: str = "utf-8"
    request: bytes = b""
    inputs: int = 1


@dataclass(frozen=True)
class Base:
    """The fixture whose files are mutated."""

    folder: Path

    def read(self, name: str) -> bytes:
        return _read(self.folder / name)

    def json(self, name: str) -> Any:
        """Return a new copy of a JSON document."""
        import json

        return json.loads(self.read(name))

    def has(self, *names: str) -> bool:
        return all((self.folder / name).exists() for name in names)

    def files(self, folder: str) -> list[str]:
        """Return every file below `folder`, relative to the fixture, sorted."""
        return _files(self.folder, folder)


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _files(root: Path, folder: str) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in (root / folder).rglob("*") if path.is_file())
