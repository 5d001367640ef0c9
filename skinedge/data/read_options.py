"""How to read a folder of labelled images where its tables alone do not tell: table, columns and cleaning plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skinedge.core.errors import ConfigError
from skinedge.data.sources.label_map import LabelMap, recorded_map


@dataclass(frozen=True)
class SourceFolder:
    """One of several folders. name: of its samples' source; path: below the folder of all; reading: how to read it."""

    name: str
    path: str
    reading: ReadOptions

    def document(self) -> dict[str, Any]:
        """Return the folder as plain values."""
        return {"name": self.name, "path": self.path, "reading": self.reading.document()}


@dataclass(frozen=True)
class ReadOptions:
    """Choices of the user, or of the run that was trained on the folder.

    table: the table of the labels, a path below the folder or any other path, '' to find it by its columns;
    columns: role (`skinedge.data.columns.ROLES`) -> name of its column, where the column's own name does not tell;
    plan: file of a cleaning plan (`skinedge.data.plan`); label_map: the folder's classes for a model with others, None
    for its own; recorded: whether they are those of a run; sources: the folders to read instead, where there are
    several.
    """

    table: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    plan: Path | None = None
    label_map: LabelMap | None = None
    recorded: bool = False
    sources: tuple[SourceFolder, ...] = ()

    @property
    def given(self) -> bool:
        """Return True if any choice was made."""
        return bool(self.table or self.columns or self.plan or self.label_map or self.sources)

    @property
    def named_columns(self) -> Mapping[str, str]:
        """Return role -> column: those of the map, and the given ones, which take precedence."""
        return {**(self.label_map.columns if self.label_map else {}), **self.columns}

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
        label_map = self.label_map.document() if self.label_map else {}
        sources = [source.document() for source in self.sources]
        pairs = (("table", self.table), ("columns", dict(self.columns)), ("map", label_map), ("sources", sources))
        return {key: value for key, value in pairs if value}


def recorded_options(raw: Mapping[str, Any], plan: Path | None) -> ReadOptions:
    """Return how a run read its folder, from `ReadOptions.document`. plan: the run's own copy. Raises: ConfigError."""
    label_map = recorded_map(raw["map"], "map of the run") if raw.get("map") else None
    sources = tuple(
        SourceFolder(str(one["name"]), str(one["path"]), recorded_options(one["reading"], None))
        for one in raw.get("sources", ())
    )
    return ReadOptions(raw.get("table", ""), raw.get("columns", {}), plan, label_map, True, sources)


DEFAULT = ReadOptions()
