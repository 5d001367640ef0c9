"""Compare the files that a command leaves with those that it leaves without a fault.

Values that differ between two runs without a fault (times, ids) may differ.
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
PROBE = b"blat"  # content of tempfile's probe file
MEASURED = ("seconds", "_ms", "_mib", "per_second")  # endings of keys of measurements, which may be equal by chance


def names(box: Path) -> dict[str, Path]:
    """Map the relative path of everything in a sandbox (folders end with a slash) to its absolute path.

    Leaves out the file that Python's `tempfile` writes to probe a folder, which a kill at that instant leaves.
    """
    paths = [path for path in sorted(box.rglob("*")) if not (path.parent == box / "tmp" and _is_probe(path))]
    return {path.relative_to(box).as_posix() + ("/" if path.is_dir() else ""): path for path in paths}


def _is_probe(path: Path) -> bool:
    name_matches = re.fullmatch(r"[a-z0-9_]{8}", path.name)
    return bool(name_matches) and path.is_file() and path.read_bytes() in (b"", PROBE)


def leaves(path: Path) -> Leaves:
    """Return pointer -> value of a JSON or JSON lines file; for any other text, '' -> the text without digits."""
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
    """Paths in a sandbox that are missing, unexpected, or have other content."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    altered: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.altered)


@dataclass(frozen=True)
class Reference:
    """Files and cost of a command without a fault.

    before: path -> sha256 in the sandbox that it starts from; after: the same when it is done; known: for files that
    differ between runs, the values that do not; seconds, cpu_seconds: duration and CPU time.
    """

    command: Command
    before: dict[str, str]
    after: dict[str, str]
    known: dict[str, Leaves]
    seconds: float
    cpu_seconds: float

    @classmethod
    def of(cls, command: Command, stage: Path, boxes: tuple[Path, Path], seconds: float, cpu: float) -> Reference:
        """Compare two runs without a fault. Raises: SystemExit when files differ that must be equal."""
        before, one, other = hashes(stage), hashes(boxes[0]), hashes(boxes[1])
        if set(one) != set(other):
            raise SystemExit(
                f"{command.name}: two runs without a fault leave {sorted(set(one) ^ set(other))} only once"
            )
        known: dict[str, Leaves] = {}
        for name in sorted(one):
            if one[name] == other[name] and not _is_timed(command, name):
                continue
            if any(fnmatch.fnmatch(name, f"work/{pattern}") for pattern in command.made):
                raise SystemExit(f"{command.name}: two runs without a fault write different bytes to {name}")
            known[name] = {} if _is_timed(command, name) else _common(leaves(boxes[0] / name), leaves(boxes[1] / name))
        return cls(command, before, one, known, seconds, cpu)

    def differences(self, box: Path) -> Differences:
        """Compare a sandbox with the files after a run without a fault."""
        actual = hashes(box)
        missing, extra = sorted(set(self.after) - set(actual)), sorted(set(actual) - set(self.after))
        altered = []
        for name in sorted(set(self.after) & set(actual)):
            if name in self.known:
                altered += [f"{name} {pointer}" for pointer in _differing(self.known[name], box / name)[:3]]
            elif actual[name] != self.after[name]:
                altered.append(name)
        return Differences(tuple(missing), tuple(extra), tuple(altered))

    def lost(self, box: Path) -> list[str]:
        """Return earlier files that the command should keep and that are missing, or should not change and that did."""
        actual = hashes(box)
        kept = [name for name in self.before if name in self.after and not name.startswith(("work/.", "run/", "home/"))]
        unchanged = [name for name in kept if self.before[name] == self.after[name] and name not in self.known]
        return [
            *(f"{name} is missing" for name in kept if name not in actual),
            *(f"{name} changed" for name in unchanged if name in actual and actual[name] != self.before[name]),
        ]


def hashes(box: Path) -> dict[str, str]:
    """Return path -> sha256, '' for a folder."""
    return {name: "" if name.endswith("/") else sha256(path) for name, path in names(box).items()}


def _is_timed(command: Command, name: str) -> bool:
    return any(fnmatch.fnmatch(name, f"work/{pattern}") for pattern in command.timed)


def _common(one: Leaves, other: Leaves) -> Leaves:
    """Return the values that are equal in both, without measurements and without sizes of files whose hashes differ."""
    compared = {pointer: value for pointer, value in one.items() if not pointer.endswith(MEASURED)}
    same = {pointer: value for pointer, value in compared.items() if pointer in other and other[pointer] == value}
    varying = {pointer.rpartition("/")[0] for pointer in one if pointer.endswith("/sha256") and pointer not in same}
    return {p: v for p, v in same.items() if not (p.endswith("/size") and p.rpartition("/")[0] in varying)}


def _differing(expected: Leaves, path: Path) -> list[str]:
    actual = leaves(path) if expected else {}
    return [pointer or "(text)" for pointer, value in expected.items() if actual.get(pointer, "missing") != value]
