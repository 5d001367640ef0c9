"""A dataset's folder before any reader has understood it: images, tables and the roles of their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.data.columns import Roles, is_one_hot, roles_of, with_header
from skinedge.data.folder import Folder
from skinedge.data.image_index import ImageIndex, stem_of
from skinedge.data.table_file import Table, fold_column, read_table
from skinedge.system.progress import note


@dataclass(frozen=True)
class Unread:
    """A table that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Contents:
    """folder: the listing; tables: those that could be read; unread: the others.

    uses: table's name -> what a reader takes from a table whose columns do not tell it.
    """

    folder: Folder
    tables: tuple[Table, ...]
    unread: tuple[Unread, ...] = ()
    roles: Mapping[str, Roles] = field(default_factory=dict)
    uses: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(folder: Folder) -> Contents:
        """Read every table of a folder."""
        tables: list[Table] = []
        unread: list[Unread] = []
        images = {stem_of(image) for image in folder.images}
        for name in folder.tables:
            try:
                tables.append(with_header(read_table(folder.root, name), images))
            except DataError as error:
                unread.append(Unread(name, str(error.args[0])))
        return Contents(folder, tuple(tables), tuple(unread), {table.name: roles_of(table) for table in tables})

    @property
    def root(self) -> Path:
        """Return the dataset's folder."""
        return self.folder.root

    @cached_property
    def index(self) -> ImageIndex:
        """The folder's images by id."""
        return ImageIndex(self.folder.root, self.folder.images)

    def find(self, table: str, image_id: str) -> str | None:
        """Return the path of an image that a table names, relative to the table or to the folder; None without it."""
        folder = table.rpartition("/")[0]
        beside = f"{folder}/{image_id}" if folder else image_id
        return beside if beside in self._paths else self.index.find(image_id)

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(self.folder.images)

    def rows_about_images(self) -> Iterator[tuple[str, Roles, dict[str, str]]]:
        """Yield (path of the image, roles, row) of every table that tells more of the images than their labels."""
        for table in self.tables:
            roles = self.roles[table.name]
            if roles.describes_images:
                for row in table.rows:
                    path = self.find(table.name, row[roles.image]) if row[roles.image] else None
                    if path is not None:
                        yield path, roles, row

    def facts(self) -> dict[str, Facts]:
        """Return what the tables tell of each image, by its path.

        Raises: DataError for an image with two lesions or two patients.
        """
        facts: dict[str, Facts] = {}
        for path, roles, row in self.rows_about_images():
            lesion, patient = (told(row[column]) if column else "" for column in (roles.lesion, roles.patient))
            own = Facts(lesion, patient, roles.meta_of(row))
            facts[path] = facts.get(path, Facts()).joined(own, path)
        return facts

    def note_tables(self) -> None:
        """Print which tables were used with which columns, and name those that were not understood.

        Raises: DataError for a table that cannot be read where no other was understood: it may hold labels or lesions.
        """
        understood = [table for table in self.tables if self.is_understood(table)]
        for table in self.tables:
            if table not in understood:
                note(f"not understood, and not used: {table.describe()}")
            else:
                note(f"table {table.name}: {self.describe_use(table)}")
        for unread in self.unread:
            if not understood:
                raise DataError(
                    f"a table beside the images cannot be read: {unread.reason}",
                    where=str(self.root / unread.name),
                    todo="Labels or lesions may be in it: repair it, or move it away.",
                )
            note(f"not read: {unread.name} ({unread.reason})")

    def describe_use(self, table: Table) -> str:
        """Return which columns are used for what, which are not, and the guesses made to read it."""
        if table.name in self.uses:
            return self.uses[table.name]
        roles = self.roles[table.name]
        parts = [f"image {roles.image}"] if roles.image else []
        if is_one_hot(table):
            parts.append("a column for each class")
        elif roles.labels:
            parts.append(f"label {' or '.join(roles.labels)}")
        named = {"lesion": (roles.lesion,), "patient": (roles.patient,), **roles.meta}
        parts += [f"{role} {' or '.join(columns)}" for role, columns in named.items() if any(columns)]
        ignored = [] if is_one_hot(table) else [c for c in table.columns if fold_column(c) not in roles.used()]
        if ignored:
            more = f" and {len(ignored) - 6} more" if len(ignored) > 6 else ""
            parts.append(f"not used: {', '.join(column or '(unnamed)' for column in ignored[:6])}{more}")
        if table.guesses:
            parts.append(f"read with {', '.join(table.guesses)}")
        return "; ".join(parts)

    def is_understood(self, table: Table) -> bool:
        """Return True if a reader makes use of the table."""
        roles = self.roles[table.name]
        return (
            table.name in self.uses or roles.describes_images or bool(roles.image and roles.labels) or is_one_hot(table)
        )


@dataclass(frozen=True)
class Facts:
    """What tables tell of one image; '' where they do not."""

    lesion: str = ""
    patient: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)

    def joined(self, other: Facts, path: str) -> Facts:
        """Return both together. Raises: DataError for two lesions or two patients."""
        for what, one, two in (("lesions", self.lesion, other.lesion), ("patients", self.patient, other.patient)):
            if one and two and one != two:
                raise DataError(f"image {path} has two {what}: {one} and {two}")
        return Facts(self.lesion or other.lesion, self.patient or other.patient, {**self.meta, **other.meta})


def told(value: str) -> str:
    """Return an id as a table gives it, '' for the spellings of none ('NA', 'null', ...)."""
    return "" if value.casefold() in {"na", "n/a", "nan", "none", "null", "unknown"} else value
