"""A dataset's folder before any reader has understood it: images, tables and the roles of their columns."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from skinedge.core.errors import ConfigError, DataError, one_of
from skinedge.data.columns import ROLES, Roles, is_one_hot, key_of, roles_of, with_header
from skinedge.data.folder import Folder
from skinedge.data.image_index import ImageIndex, stem_of
from skinedge.data.plan import is_plan
from skinedge.data.problems import Problem
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.data.table_file import Table, fold_column, read_header, read_table
from skinedge.system.progress import note

_WIDE = 500  # columns: more are pixels, as in Kaggle's HAM10000, with millions of cells


SPLIT = re.compile(r"(train|val|test)", re.IGNORECASE)  # beginning of the name of an official split's folder


@dataclass(frozen=True)
class Unread:
    """A table that could not be read, and why."""

    name: str
    reason: str

    def describe(self) -> str:
        """Return both, for messages."""
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True)
class Contents:
    """What a folder holds, for its reader.

    tables: those that could be read; unread: the others; roles: name of a table -> those of its columns;
    options: `table` is the name of one of the tables, or ''; left_out: paths that a plan leaves out;
    uses: name of a table -> what a reader takes from it, where its columns do not tell that; local: names of tables
    that name only images in or below their own folder;
    problems: what readers add to with `refuse`, instead of ending at the first fault.
    """

    folder: Folder
    tables: tuple[Table, ...]
    unread: tuple[Unread, ...] = ()
    roles: Mapping[str, Roles] = field(default_factory=dict)
    options: ReadOptions = DEFAULT
    left_out: frozenset[str] = frozenset()
    uses: dict[str, str] = field(default_factory=dict)
    local: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    @staticmethod
    def of(folder: Folder, options: ReadOptions = DEFAULT, left_out: frozenset[str] = frozenset()) -> Contents:
        """Read every table of a folder; of a wide one that does not name images or lesions, the first rows.

        Raises: ConfigError for options that name a table or column that the folder lacks, or a table without a column
        of images or of labels; DataError when the named table cannot be read.
        """
        tables: list[Table] = []
        unread: list[Unread] = []
        images = {stem_of(image) for image in folder.images}
        for name in dict.fromkeys([*folder.tables, *([options.table] if options.table else [])]):
            try:
                table = read_header(folder.root, name)
                if len(table.columns) < _WIDE or key_of(roles_of(table, options.columns)):
                    table = with_header(read_table(folder.root, name), images)
            except DataError as error:
                if name == options.table:
                    raise
                unread.append(Unread(name, str(error.args[0])))
                continue
            if is_plan(table) and name != options.table:
                note(f"not read as a table: {name} is a cleaning plan; it takes effect with --plan")
            else:
                tables.append(table)
        roles = {table.name: roles_of(table, options.columns) for table in tables}
        contents = Contents(folder, tuple(tables), tuple(unread), roles, options, left_out)
        for table in tables:
            if contents._has_placeholders(table):
                contents.uses[table.name] = "not used: its labels are placeholders"
        contents._check_options()
        return contents

    @property
    def root(self) -> Path:
        """Return the dataset's folder."""
        return self.folder.root

    @property
    def images(self) -> tuple[str, ...]:
        """Return the folder's images without those that a plan leaves out."""
        return tuple(image for image in self.folder.images if image not in self.left_out)

    @cached_property
    def index(self) -> ImageIndex:
        """The folder's images by id."""
        return ImageIndex(self.folder.root, self.folder.images)

    @cached_property
    def ambiguous(self) -> dict[str, tuple[str, ...]]:
        """Ids that fit several different images, found so far by `find`."""
        return {}

    @cached_property
    def _paths(self) -> frozenset[str]:
        return frozenset(self.folder.images)

    def find(self, table: str, image_id: str) -> str | None:
        """Return the path of an image that a table names, relative to the table or to the folder; None without it.

        Of several different images it returns the first, and adds all to `ambiguous`.
        """
        places = self._places(table, image_id)
        kept = [path for path in places if path not in self.left_out] or list(places)
        if len(kept) > 1 and kept[0] not in self.left_out:
            self.ambiguous[image_id] = tuple(kept)
        return kept[0] if kept else None

    def _places(self, table: str, image_id: str) -> Sequence[str]:
        folder = "".join(table.rpartition("/")[:2])
        beside = folder + image_id
        if beside in self._paths:
            return (beside,)
        if table in self.local:
            return [path for path in self.index.places(beside) if path.startswith(folder)]
        return self.index.places(image_id)

    def refuse(self, what: str, cases: Sequence[tuple[str, str]], *, where: str | None = None, todo: str = "") -> None:
        """Add a problem, unless a plan leaves out the images of all its cases.

        cases: (text, path of the image whose omission would fix it, '' if none would).
        """
        left = [case for case in cases if case[1] not in self.left_out]
        if left:
            images = tuple(dict.fromkeys(path for _, path in left if path))
            texts = tuple(text for text, _ in left)
            self.problems.append(Problem(what, where or str(self.root), texts, todo, images))

    def refuse_ambiguous(self) -> None:
        """Add a problem for the ids that fit several different images."""
        cases = [
            (f"{name} ({' and '.join(places)})", path) for name, places in self.ambiguous.items() for path in places
        ]
        if cases:
            texts = tuple(dict.fromkeys(text for text, _ in cases))
            images = tuple(dict.fromkeys(path for _, path in cases))
            todo = "Name them by their paths in the table, or remove the wrong ones."
            self.problems.append(Problem("ids name two different images", str(self.root), texts, todo, images))

    def refuse_unread(self) -> None:
        """Put a problem first for unread tables where no other is understood: they may hold labels or lesions."""
        understood = [table for table in self.tables if self.is_understood(table) and not self._has_placeholders(table)]
        if self.unread and not understood:
            what, todo = "tables beside the images cannot be read", "repair them, or move them away."
            cases = tuple(unread.describe() for unread in self.unread)
            self.problems.insert(0, Problem(what, str(self.root), cases, f"Labels or lesions may be in them: {todo}"))

    def is_one_hot(self, table: Table) -> bool:
        """Return True if the table has a column of 0 and 1 for each class, and none is named as its label."""
        label = self.options.columns.get("label", "")
        return not (label and table.has(fold_column(label))) and is_one_hot(table, self.roles[table.name])

    @cached_property
    def label_tables(self) -> tuple[Table, ...]:
        """The tables that can be the labels: those that the options choose, else all with images and labels."""
        return tuple(table for table in (self._chosen() or self.tables) if self._has_labels(table))

    def label_table(self) -> Table | None:
        """Return the one table that labels the folder's images, None where none does. Raises: DataError for several."""
        tables = self.label_tables
        if len(tables) > 1:
            refuse_datasets(self.root, _datasets(tables, self.images), f"or: --table {tables[0].name}")
            raise DataError(
                f"several tables could be the labels: {', '.join(table.name for table in tables)}",
                where=str(self.root),
                todo=f"Choose one with: --table {tables[0].name}",
            )
        return tables[0] if tables else None

    def _chosen(self) -> list[Table]:
        """Return the tables that the options choose as the labels: the named one, or those with the named column."""
        label = fold_column(self.options.columns.get("label", ""))
        if self.options.table:
            return [table for table in self.tables if table.name == self.options.table]
        return [table for table in self.tables if label and table.has(label) and not self._has_placeholders(table)]

    def _has_labels(self, table: Table) -> bool:
        roles = self.roles[table.name]
        named = bool(roles.image and roles.labels) or self.is_one_hot(table)
        return named and not self._has_placeholders(table)

    def _has_placeholders(self, table: Table) -> bool:
        """Return True for a challenge's sample submission, unless the options name it."""
        return PurePosixPath(table.name).stem.lower() == "sample_submission" and table.name != self.options.table

    def _check_options(self) -> None:
        origin, where, roles = self.options.origin, str(self.root), f"Roles: {', '.join(ROLES)}."
        for role, column in self.options.columns.items():
            one_of("role of a column", role, ROLES)
            if not any(table.has(fold_column(column)) for table in self.tables):
                raise ConfigError(
                    f"no table has a column '{column}', named as the {role} by --columns{origin}",
                    where=where,
                    lines=[f"  {table.describe(100)}" for table in self.tables],
                    todo=f"Give --columns ROLE=COLUMN,... {roles}",
                )
        chosen = self._chosen()
        if chosen and not self.label_tables:
            known = self.roles[chosen[0].name]
            missing = [role for role, has in (("image", known.image), ("label", known.labels)) if not has]
            raise ConfigError(
                f"{chosen[0].describe(100)} has no known column for: {', '.join(missing)}{origin}",
                where=where,
                todo=f"Name it: --columns {','.join(f'{role}=COLUMN' for role in missing)}. {roles}",
            )

    def unused_columns(self, table: Table) -> list[str]:
        """Return the columns that no reader uses, as written; those of a one-hot table are all used."""
        roles, labels = self.roles[table.name], table in self.label_tables
        if labels and self.is_one_hot(table):
            return []
        used = set(roles.used()) - (set() if labels else set(roles.labels))
        return [column for column in table.columns if fold_column(column) not in used]

    def is_understood(self, table: Table) -> bool:
        """Return True if a reader makes use of the table, or knows that it is of no use."""
        return table.name in self.uses or self.roles[table.name].describes_images or self._has_labels(table)


def refuse_datasets(root: Path, names: Sequence[str], other: str = "") -> None:
    """Raise a DataError if a folder holds several datasets. names: of their folders; other: another way out."""
    if len(names) > 1:
        todo = f"Give one of them, for example: {shlex.quote(str(root / names[0]))}{f'; {other}' if other else ''}"
        raise DataError(f"holds several datasets: {', '.join(names)}", where=str(root), todo=todo)


def _datasets(tables: Sequence[Table], images: Sequence[str]) -> list[str]:
    """Return the folders of several datasets: two at least have a table of labels and images; else []."""
    labelled = {table.name.partition("/")[0] for table in tables if "/" in table.name}
    tops = {image.partition("/")[0] for image in images}
    apart = all("/" in table.name for table in tables) and len(labelled & tops) > 1
    names = [*sorted(labelled & tops), *sorted(labelled ^ tops)]
    return names if apart and not any(SPLIT.match(folder) for folder in labelled) else []
