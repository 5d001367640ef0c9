"""The table of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FAULTS = (
    "invalid", "lost", "leftovers", "orphans", "altered", "does not go on", "wrong success", "message", "campaign",
)  # fmt: skip
SWEPT = "swept"  # left by an error or a signal other than KILL and removed by the next command: not a fault
COLUMNS = ("command", "kills", "errors", "survived", *FAULTS, SWEPT, "not struck", "CPU s")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as plain text: one line per command, and their sum."""
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
    fault_counts = [sum(kind in row["faults"] for row in rows) for kind in FAULTS]
    fault_counts.append(sum(bool(row[SWEPT]) for row in rows))
    seconds = sum(row["cpu_seconds"] for row in rows)
    numbers = (kills, len(struck) - kills, survived, *fault_counts, len(rows) - len(struck), round(seconds))
    return [name, *map(str, numbers)]


def details(rows: Sequence[Mapping[str, Any]], most: int = 60) -> str:
    """List the faults with their call sites; equal ones once, with their count."""
    occurrences: dict[tuple[str, ...], int] = {}
    for row in rows:
        for kind, descriptions in row["faults"].items():
            limit = row["disk"] or row["largest_file"] or row["timed"]
            where = row["strike"]["site"] if row["strike"] else str(limit)
            key = (row["command"], row["action"], kind, where, str(descriptions[0])[:300])
            occurrences[key] = occurrences.get(key, 0) + 1
    lines = [f"{count} x {' | '.join(key)}" for key, count in sorted(occurrences.items())]
    return "\n".join(lines[:most] + ([f"... and {len(lines) - most} more"] if len(lines) > most else []))
