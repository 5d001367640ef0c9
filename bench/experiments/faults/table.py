"""The table of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FAULTS = (
    "invalid", "lost", "leftovers", "orphans", "altered", "does not go on", "wrong success", "message", "campaign",
)  # fmt: skip
SWEPT = "swept"  # left by an error or a signal other than KILL, and removed by the next command: no fault
COLUMNS = ("command", "kills", "errors", "survived", *FAULTS, SWEPT, "not struck", "CPU s")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Plain text: one line for each command, and their sum."""
    commands = list(dict.fromkeys(row["command"] for row in rows))
    lines = [_line(name, [row for row in rows if row["command"] == name]) for name in commands]
    lines.append(_line("all", rows))
    cells = [list(COLUMNS), *lines]
    widths = [max(len(line[index]) for line in cells) for index in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in pairs)
        for pairs in (list(enumerate(zip(line, widths, strict=True))) for line in cells)
    )


def _line(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    struck = [row for row in rows if row["struck"]]
    kills = sum(row["kind"] == "kill" for row in struck)
    survived = sum(not row["faults"] for row in struck)
    seen = [sum(kind in row["faults"] for row in rows) for kind in FAULTS]
    seen.append(sum(bool(row[SWEPT]) for row in rows))
    seconds = sum(row["cpu_seconds"] for row in rows)
    numbers = (kills, len(struck) - kills, survived, *seen, len(rows) - len(struck), round(seconds))
    return [name, *map(str, numbers)]


def details(rows: Sequence[Mapping[str, Any]], most: int = 60) -> str:
    """The faults that were found, each with the call at which it was provoked; alike ones once."""
    seen: dict[tuple[str, ...], int] = {}
    for row in rows:
        for kind, what in row["faults"].items():
            limit = row["disk"] or row["largest_file"] or row["timed"]
            where = row["strike"]["site"] if row["strike"] else str(limit)
            key = (row["command"], row["action"], kind, where, str(what[0])[:300])
            seen[key] = seen.get(key, 0) + 1
    lines = [f"{count} x {' | '.join(key)}" for key, count in sorted(seen.items())]
    return "\n".join(lines[:most] + ([f"... and {len(lines) - most} more"] if len(lines) > most else []))
