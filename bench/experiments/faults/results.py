"""What a command leaves, compared with what it leaves undisturbed.

Two undisturbed runs tell what may differ (times, ids): each value in a JSON document that differs between them.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.faults.commands import Command
from skinedge.core.files import sha256

Leaves = dict[str, Any]
PROBE = b"blat"
MEASURED = ("seconds", "_ms", "_mib", "per_second")  # at the end of a key: two undisturbed runs may agree by chance


def names(box: Path) -> dict[str, Path]:
    """Everything in a sandbox: path relative to it (folders with a slash at the end) -> where it is.

    Left out: the file with which Python's `tempfile` tries whether it may write, which a kill at that instant leaves.
    """
    paths = [path for path in sorted(box.rglob("*")) if not (path.parent == box / "tmp" and _is_probe(path))]
    return {path.relative_to(box).as_posix() + ("/" if path.is_dir() else ""): path for path in paths}


def _is_probe(path: Path) -> bool:
    named = re.fullmatch(r"[a-z0-9_]{8}", path.name)
    return bool(named) and path.is_file() and path.read_bytes() in (b"", PROBE)


def leaves(path: Path) -> Leaves:
    """Pointer -> value of a JSON or JSON lines file; the text without its digits under '' for any other text."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".json":
        return dict(_flat("", json.loads(text)))
    if path.suffix == ".jsonl":
        return dict(_flat("", [json.loads(line) for line in text.splitlines()]))
    return {"": re.sub(r"[0-9a-fA-F.]+", "#", text)}


def _flat(pointer: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inside = [pair for key, item in value.items() for pair in _flat(f"{pointer}/{key}", item)]
    elif isinstance(value, list):
        inside = [pair for index, item in enumerate(value) for pair in _flat(f"{pointer}/{index}", item)]
    else:
        return [(pointer, value)]
    return inside or [(pointer, value)]


@dataclass(frozen=True)
class Differences:
    """Paths in a sandbox that should be there and are not, that should not, and of which the content is another."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    altered: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.altered)


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run of a command leaves.

    before: path -> sha256 in the sandbox that it starts from; after: the same when it is done; known: the values that
    are the same each time, of the files that are not; seconds, cpu_seconds: what it takes.
    """

    command: Command
    before: dict[str, str]
    after: dict[str, str]
    known: dict[str, Leaves]
    seconds: float
    cpu_seconds: float

    @classmethod
    def of(cls, command: Command, stage: Path, boxes: tuple[Path, Path], seconds: float, cpu: float) -> Reference:
        """Raises: SystemExit when two undisturbed runs differ in what must be the same."""
        before, one, other = hashes(stage), hashes(boxes[0]), hashes(boxes[1])
        if set(one) != set(other):
            raise SystemExit(f"{command.name}: two undisturbed runs leave other files: {sorted(set(one) ^ set(other))}")
        known: dict[str, Leaves] = {}
        for name in sorted(one):
            if one[name] == other[name] and not _is_timed(command, name):
                continue
            if any(fnmatch.fnmatch(name, f"work/{pattern}") for pattern in command.made):
                raise SystemExit(f"{command.name}: two undisturbed runs make other bytes of {name}")
            known[name] = {} if _is_timed(command, name) else _common(leaves(boxes[0] / name), leaves(boxes[1] / name))
        return cls(command, before, one, known, seconds, cpu)

    def differences(self, box: Path) -> Differences:
        found = hashes(box)
        missing, extra = sorted(set(self.after) - set(found)), sorted(set(found) - set(self.after))
        altered = []
        for name in sorted(set(self.after) & set(found)):
            if name in self.known:
                altered += [f"{name} {pointer}" for pointer in _other(self.known[name], box / name)[:3]]
            elif found[name] != self.after[name]:
                altered.append(name)
        return Differences(tuple(missing), tuple(extra), tuple(altered))

    def lost(self, box: Path) -> list[str]:
        """Files of before that the command leaves in their place and that are gone, or leaves alone and are others."""
        found = hashes(box)
        kept = [name for name in self.before if name in self.after and not name.startswith(("work/.", "run/", "home/"))]
        gone = [name for name in kept if name not in found]
        alone = [name for name in kept if self.before[name] == self.after[name] and name not in self.known]
        return [
            *(f"{name} is gone" for name in gone),
            *(f"{n} changed" for n in alone if found.get(n, "") != self.before[n] and n in found),
        ]


def hashes(box: Path) -> dict[str, str]:
    """Path -> sha256, '' for a folder."""
    return {name: "" if name.endswith("/") else sha256(path) for name, path in names(box).items()}


def _is_timed(command: Command, name: str) -> bool:
    return any(fnmatch.fnmatch(name, f"work/{pattern}") for pattern in command.timed)


def _common(one: Leaves, other: Leaves) -> Leaves:
    """The values that are the same in both, but for times; the size of a file whose hash is not is none of them."""
    compared = {pointer: value for pointer, value in one.items() if not pointer.endswith(MEASURED)}
    same = {pointer: value for pointer, value in compared.items() if pointer in other and other[pointer] == value}
    varying = {pointer.rpartition("/")[0] for pointer in one if pointer.endswith("/sha256") and pointer not in same}
    return {p: v for p, v in same.items() if not (p.endswith("/size") and p.rpartition("/")[0] in varying)}


def _other(known: Leaves, path: Path) -> list[str]:
    found = leaves(path) if known else {}
    return [pointer or "(text)" for pointer, value in known.items() if found.get(pointer, "missing") != value]
