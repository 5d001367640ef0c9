"""A dataset's folder before any reader has understood it: images, tables and the roles of their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from skinedge.core.errors import ConfigError, DataError, one_of
from skinedge.data.columns import ROLES, Roles, is_one_hot, key_of, roles_of
from skinedge.data.folder import Folder
from skinedge.data.image_index import ImageIndex
from skinedge.data.plan import is_plan
from skinedge.data.problems import Problem
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.data.table_file import Table, fold_column, read_header, read_table
from skinedge.system.progress import note

_WIDE = 500  # columns: more are pixels, as in Kaggle's HAM10000, with millions of cells


@dataclass(frozen=True)
class Unread:
    """A table that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Contents:
    """What a folder holds, for its reader.

    tables: those that could be read; unread: the others; roles: name of a table -> those of its columns;
    options: `table` is the name of one of the tables, or ''; left_out: paths that a plan leaves out;
    problems: what readers add to with `refuse`, instead of ending at the first fault.
    """

    folder: Folder
    tables: tuple[Table, ...]
    unread: tuple[Unread, ...] = ()
    roles: Mapping[str, Roles] = field(default_factory=dict)
    options: ReadOptions = DEFAULT
    left_out: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)

    @staticmethod
    def of(folder: Folder, options: ReadOptions = DEFAULT, left_out: frozenset[str] = frozenset()) -> Contents:
        """Read every table of a folder; of a wide one that does not name images or lesions, the first rows.

        Raises: ConfigError for options that name a table or column that the folder lacks, or a table without a column
        of images or of labels; DataError when the named table cannot be read.
        """
        tables: list[Table] = []
        unread: list[Unread] = []
        for name in dict.fromkeys([*folder.tables, *([options.table] if options.table else [])]):
            try:
                table = read_header(folder.root, name)
                if len(table.columns) < _WIDE or key_of(table, roles_of(table, options.columns)):
                    table = read_table(folder.root, name)
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
        """Return the path of an image that a table names, relative to the table or to the folder; None without one.

        Of several different images it returns the first, and adds all to `ambiguous`.
        """
        folder = table.rpartition("/")[0]
        beside = f"{folder}/{image_id}" if folder else image_id
        if beside in self._paths:
            return beside
        places = self.index.places(image_id)
        kept = [path for path in places if path not in self.left_out] or list(places)
        if len(kept) > 1 and kept[0] not in self.left_out:
            self.ambiguous[image_id] = tuple(kept)
        return kept[0] if kept else None

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

    def is_one_hot(self, table: Table) -> bool:
        """Return True if the table has a column of 0 and 1 for each class, and none is named as its label."""
        label = self.options.columns.get("label", "")
        return not (label and table.has(fold_column(label))) and is_one_hot(table, self.roles[table.name])

    @cached_property
    def label_tables(self) -> tuple[Table, ...]:
        """The tables that can be the labels: those that the options choose, else all with images and labels."""
        return tuple(table for table in (self._chosen() or self.tables) if self._has_labels(table))

    def _chosen(self) -> list[Table]:
        """Return the tables that the options choose as the labels: the named one, or those with the named column."""
        label = fold_column(self.options.columns.get("label", ""))
        if self.options.table:
            return [table for table in self.tables if table.name == self.options.table]
        return [table for table in self.tables if label and table.has(label)]

    def _has_labels(self, table: Table) -> bool:
        roles = self.roles[table.name]
        return bool(roles.image and roles.labels) or self.is_one_hot(table)

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

    def refuse_unread(self) -> None:
        """Add a problem for unread tables where no other is understood: they may hold labels or lesions."""
        if self.unread and not any(self.is_understood(table) for table in self.tables):
            cases = tuple(f"{unread.name} ({unread.reason})" for unread in self.unread)
            todo = "Labels or lesions may be in them: repair them, or move them away."
            problem = Problem("tables beside the images cannot be read", str(self.root), cases, todo)
            self.problems.insert(0, problem)  # perhaps the cause of the others

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
        """Return what the tables tell of each image, by its path; two lesions or patients of one are a problem."""
        facts: dict[str, Facts] = {}
        conflicts: dict[str, str] = {}
        for path, roles, row in self.rows_about_images():
            lesion, patient = (told(row[column]) if column else "" for column in (roles.lesion, roles.patient))
            known, own = facts.get(path, Facts()), Facts(lesion, patient, roles.meta_of(row))
            if conflict := known.conflict(own):
                conflicts[path] = conflict
            facts[path] = known.joined(own)
        cases = [(f"{path} ({conflict})", path) for path, conflict in conflicts.items()]
        self.refuse("images have two lesions or patients in the tables", cases, todo="Correct the tables.")
        return facts

    def unused_columns(self, table: Table) -> list[str]:
        """Return the columns that no reader uses, as written; those of a one-hot table are all used."""
        roles, labels = self.roles[table.name], table in self.label_tables
        if labels and self.is_one_hot(table):
            return []
        used = set(roles.used()) - (set() if labels else set(roles.labels))
        return [column for column in table.columns if fold_column(column) not in used]

    def is_understood(self, table: Table) -> bool:
        """Return True if a reader makes use of the table."""
        return self.roles[table.name].describes_images or self._has_labels(table)


@dataclass(frozen=True)
class Facts:
    """What tables tell of one image; '' where they do not."""

    lesion: str = ""
    patient: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)

    def conflict(self, other: Facts) -> str:
        """Return the two lesions or patients that both tell, '' if they agree."""
        pairs = ((self.lesion, other.lesion), (self.patient, other.patient))
        return next((f"{one} and {two}" for one, two in pairs if one and two and one != two), "")

    def joined(self, other: Facts) -> Facts:
        """Return both together; where they contradict each other, the first counts."""
        return Facts(self.lesion or other.lesion, self.patient or other.patient, {**self.meta, **other.meta})


def only_one(contents: Contents, tables: Sequence[Table]) -> Table | None:
    """Return the only table, None without one. Raises: DataError for several."""
    if len(tables) > 1:
        raise DataError(
            f"several tables could be the labels: {', '.join(table.name for table in tables)}",
            where=str(contents.root),
            todo=f"Choose one with: --table {tables[0].name}",
        )
    return tables[0] if tables else None


def told(value: str) -> str:
    """Return an id as a table gives it, '' for the spellings of none ('NA', 'null', ...)."""
    return "" if value.casefold() in {"na", "n/a", "nan", "none", "null", "unknown"} else value
