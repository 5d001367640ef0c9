"""How to read a folder of labelled images where its tables alone do not tell: table, columns and cleaning plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skinedge.core.errors import ConfigError


@dataclass(frozen=True)
class ReadOptions:
    """Choices of the user, or of the run that was trained on the folder.

    table: the table of the labels, a path below the folder or any other path, '' to find it by its columns;
    columns: role (`skinedge.data.columns.ROLES`) -> name of its column, where the column's own name does not tell;
    plan: file of a cleaning plan (`skinedge.data.plan`); recorded: whether they are those of a run.
    """

    table: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    plan: Path | None = None
    recorded: bool = False

    @property
    def given(self) -> bool:
        """Return True if any choice was made."""
        return bool(self.table or self.columns or self.plan)

    @property
    def origin(self) -> str:
        """Return '' for a choice of the command line, else a phrase that names the run as its origin."""
        return " (recorded in the run)" if self.recorded else ""

    def located(self, root: Path) -> ReadOptions:
        """Return the options with `table` relative to the folder `root`, absolute for a table elsewhere.

        Raises: ConfigError for a table that does not exist, or a name that fits two files.
        """
        if not self.table or not root.is_dir():  # the reader refuses another root
            return self
        places = [root / self.table] if self.recorded else [root / self.table, Path(self.table)]
        files = list({path.resolve(): path for path in places if path.is_file()})
        if len(files) != 1:
            what = f"{self.table} names two tables: {files[0]} and {files[1]}" if files else f"no table {self.table}"
            todo = "Give its full path." if files else "Restore it, or name another one with --table FILE."
            raise ConfigError(f"{what}{self.origin}", where=str(root), todo=todo)
        inside = files[0].is_relative_to(root.resolve())
        return replace(self, table=files[0].relative_to(root.resolve()).as_posix() if inside else str(files[0]))

    def document(self) -> dict[str, Any]:
        """Return the choices that a run records besides its plan, which is a file; {} for none."""
        return {key: value for key, value in (("table", self.table), ("columns", dict(self.columns))) if value}


DEFAULT = ReadOptions()
