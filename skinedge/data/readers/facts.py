"""What the tables of a folder tell of each image besides its label: lesion, patient, age, sex, ..."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from skinedge.data.readers.contents import Contents
from skinedge.system.progress import note


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


def facts_of(contents: Contents) -> dict[str, Facts]:
    """Return what the tables tell of each image, by its path; two lesions or patients of one are a problem."""
    facts: dict[str, Facts] = {}
    conflicts: dict[str, str] = {}
    used: set[str] = set()
    for path, table, row in _rows_about_images(contents):
        used.add(table)
        roles = contents.roles[table]
        lesion, patient = (_told(row[column]) if column else "" for column in (roles.lesion, roles.patient))
        known, own = facts.get(path, Facts()), Facts(lesion, patient, roles.meta_of(row))
        if conflict := known.conflict(own):
            conflicts[path] = conflict
        facts[path] = known.joined(own)
    cases = [(f"{path} ({conflict})", path) for path, conflict in conflicts.items()]
    contents.refuse("images have two lesions or patients in the tables", cases, todo="Correct the tables.")
    _refuse_unmatched(contents, used, grouped=any(own.lesion or own.patient for own in facts.values()))
    return facts


def _refuse_unmatched(contents: Contents, used: Collection[str], *, grouped: bool) -> None:
    """Name the tables that describe images, but none of this folder.

    used: names of the tables that do; grouped: they tell a lesion or patient. If they do not, a table that would have
    told it is a problem: images of one lesion would get into different splits.
    """
    cases = []
    for table in contents.tables:
        roles = contents.roles[table.name]
        if roles.describes_images and table.name not in used and table not in contents.label_tables:
            if (roles.lesion or roles.patient) and not grouped:
                cases.append((f"{table.name} (column {roles.image})", ""))
            else:
                note(f"no row of {table.name} names an image of this folder (column {roles.image})")
    todo = "Correct the ids, name their column with --columns image=COLUMN, or move the table away."
    contents.refuse("tables tell lesions or patients, but of no image of this folder", cases, todo=todo)


def _rows_about_images(contents: Contents) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield (path of the image, name of the table, row) of every table that tells more than labels."""
    for table in contents.tables:
        roles = contents.roles[table.name]
        if roles.describes_images:
            for row in table.rows:
                path = contents.find(table.name, row[roles.image]) if row[roles.image] else None
                if path is not None:
                    yield path, table.name, row


def _told(value: str) -> str:
    """Return an id as a table gives it, '' for the spellings of none ('NA', 'null', ...)."""
    return "" if value.casefold() in {"na", "n/a", "nan", "none", "null", "unknown"} else value
