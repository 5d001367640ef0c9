"""One input of the campaign: files to write, a command to run, and what may come of it."""

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
    """A named pipe that nobody writes to."""


@dataclass(frozen=True)
class Folder:
    """An empty folder."""


Content = bytes | Link | Sparse | Fifo | Folder | None  # None: the file is removed


@dataclass(frozen=True)
class Outcome:
    """How a command ended. code: its exit code, None where `failure` tells how it ended instead.

    failure: '' | 'traceback' | 'crash' | 'hang'; opened: files that it opened, where that was asked for;
    peak_mib: of its resident memory and that of the largest process it started; torch: whether it imported torch;
    seconds: of CPU where it ran in a child that lives on, else of the clock.
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
    """argv: after `skinedge`; files: path below the working folder -> what to put there.

    kind: the row of the table; writes: files and folders that the command may change; guarded: files that a manifest
    lists with their hash: a command that reads them must refuse their change; judge: what is wrong with an accepted
    result, from the outcome, the outcome without the mutation and the working folder; env: over the environment, None
    removes; torch: whether the command may import torch; fresh: run in a process of its own; encoding: of standard
    output; request: bytes to send to the web server, in place of a command; inputs: how many mutated inputs it is.
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
    """The fixture that inputs are mutated from."""

    folder: Path

    def read(self, name: str) -> bytes:
        return _read(self.folder / name)

    def json(self, name: str) -> Any:
        """A fresh copy of a JSON document."""
        import json

        return json.loads(self.read(name))

    def has(self, *names: str) -> bool:
        return all((self.folder / name).exists() for name in names)

    def files(self, folder: str) -> list[str]:
        """Every file below `folder`, relative to the fixture, sorted."""
        return _files(self.folder, folder)


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _files(root: Path, folder: str) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in (root / folder).rglob("*") if path.is_file())
