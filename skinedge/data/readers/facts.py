"""What the tables of a folder tell of each image besides its label: lesion, patient, age, sex, ..."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from skinedge.data.columns import Roles
from skinedge.data.readers.contents import Contents


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
    for path, roles, row in _rows_about_images(contents):
        lesion, patient = (_told(row[column]) if column else "" for column in (roles.lesion, roles.patient))
        known, own = facts.get(path, Facts()), Facts(lesion, patient, roles.meta_of(row))
        if conflict := known.conflict(own):
            conflicts[path] = conflict
        facts[path] = known.joined(own)
    cases = [(f"{path} ({conflict})", path) for path, conflict in conflicts.items()]
    contents.refuse("images have two lesions or patients in the tables", cases, todo="Correct the tables.")
    return facts


def _rows_about_images(contents: Contents) -> Iterator[tuple[str, Roles, dict[str, str]]]:
    """Yield (path of the image, roles, row) of every table that tells more of the images than their labels."""
    for table in contents.tables:
        roles = contents.roles[table.name]
        if roles.describes_images:
            for row in table.rows:
                path = contents.find(table.name, row[roles.image]) if row[roles.image] else None
                if path is not None:
                    yield path, roles, row


def _told(value: str) -> str:
    """Return an id as a table gives it, '' for the spellings of none ('NA', 'null', ...)."""
    return "" if value.casefold() in {"na", "n/a", "nan", "none", "null", "unknown"} else value
