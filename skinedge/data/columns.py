"""Roles of a table's columns: image, label, lesion, patient and what else is told of an image."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from skinedge.core.errors import ConfigError, DataError, one_of
from skinedge.data.image_index import stem_of
from skinedge.data.table_file import Table, first_value, fold_column

IMAGE = (
    "image_id", "image", "isic_id", "image_name", "img_id", "bcn_filename", "ddi_file", "md5hash", "filename",
    "file_name", "file", "path", "image_path", "derm",
)  # fmt: skip
LESION = ("lesion_id",)
PATIENT = ("patient_id",)
# Most specific first. Of the columns of a tree of diagnoses, the deepest that is filled counts, row by row.
DIAGNOSES = tuple(f"diagnosis_{depth}" for depth in range(5, 0, -1))
IDDX = tuple(f"iddx_{depth}" for depth in range(5, 0, -1))
LABELS: tuple[tuple[str, ...], ...] = (
    ("dx",), ("diagnostic",), DIAGNOSES, IDDX, ("diagnosis",), ("disease",), ("label",), ("class",),
    ("benign_malignant",), ("target",), ("malignant",),
)  # fmt: skip
MALIGNANCY = frozenset({"target", "malignant", "benign_malignant"})  # columns that may hold 0 and 1
_BINARY = {"0": "benign", "0.0": "benign", "false": "benign", "1": "malignant", "1.0": "malignant", "true": "malignant"}
# name in `Sample.meta` -> columns, the first that is filled counts
META: Mapping[str, tuple[str, ...]] = {
    "sex": ("sex", "gender", "sex_at_birth"),
    "age": ("age", "age_approx", "age_approximate"),
    "site": (
        "localization",
        "anatom_site_general",
        "anatom_site_general_challenge",
        "anatom_site",
        "region",
        "site",
        "location",
    ),
    "confirmed_by": ("dx_type", "diagnosis_confirm_type"),
    "fitzpatrick": ("fitzpatrick_skin_type", "fitspatrick", "fitzpatrick_scale", "fitzpatrick"),
    "fitzpatrick_dermatologist": tuple(f"dermatologist_fitzpatrick_skin_type_label_{k}" for k in (1, 2, 3)),
    "monk": ("monk_skin_tone",),
    "monk_us": ("monk_skin_tone_label_us",),
    "monk_india": ("monk_skin_tone_label_india",),
    "milk10k_tone": ("skin_tone_class",),
    "skin_tone": ("skin_tone",),
    "image_type": ("image_type",),
}
# Scales of skin tone, each with its own name, since none converts to another: (lowest, highest grade). Fitzpatrick and
# Monk: the lowest is the lightest; MILK10k: the darkest. `skin_tone` has the table's own values (DDI: 12, 34, 56).
TONE_SCALES: Mapping[str, tuple[int, int] | None] = {
    "fitzpatrick": (1, 6),
    "fitzpatrick_dermatologist": (1, 6),  # where all of several dermatologists agree
    "monk": (1, 10),
    "monk_us": (1, 10),  # by graders in the US, in India
    "monk_india": (1, 10),
    "milk10k_tone": (0, 5),
    "skin_tone": None,
}
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}
ROLES = ("image", "label", "lesion", "patient", *META, "split")  # what `--columns` can name
_PAIRS = re.compile(r",(?=\s*\w+\s*=)")  # between two pairs: a column's name may have a comma
_UNTOLD = frozenset({"", "na", "n/a", "nan", "none", "null", "unknown", "-1", "-1.0"})
# Columns of ISIC's tables that are no classes.
_NO_CLASS = frozenset({"score_weight", "validation_weight", "split", "fold"})


@dataclass(frozen=True)
class Roles:
    """Columns (folded) of one table by role; '' or () for a role that no column has."""

    image: str = ""
    labels: tuple[str, ...] = ()
    lesion: str = ""
    patient: str = ""
    meta: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def describes_images(self) -> bool:
        """Return True if the table says anything of an image besides its label."""
        return bool(self.image and (self.lesion or self.patient or self.meta))

    def label_of(self, row: Mapping[str, str]) -> str:
        """Return the class name of a row, '' without one; 0 and 1 of a column of malignancy are named."""
        value = first_value(row, self.labels)
        malignancy = bool(self.labels) and self.labels[0] in MALIGNANCY
        return _BINARY.get(value.casefold(), value) if malignancy else value

    def meta_of(self, row: Mapping[str, str]) -> dict[str, str]:
        """Return what the row tells of the image: sex, age, site, skin tone, ..."""
        values = {name: _told(name, [row[column] for column in columns]) for name, columns in self.meta.items()}
        return {name: value for name, value in values.items() if value.casefold() not in _UNTOLD}

    def used(self) -> tuple[str, ...]:
        """Return every column that has a role."""
        columns = (self.image, *self.labels, self.lesion, self.patient, *(c for cs in self.meta.values() for c in cs))
        return tuple(dict.fromkeys(column for column in columns if column))


def _told(name: str, cells: Sequence[str]) -> str:
    """Return the first cell that is filled; of a scale, the grade that all cells with one agree on; else ''."""
    scale = TONE_SCALES.get(name)
    if scale is None:
        return next((cell for cell in cells if cell), "")
    grades = {_grade(cell, *scale) for cell in cells} - {""}
    return grades.pop() if len(grades) == 1 else ""


def _grade(cell: str, lowest: int, highest: int) -> str:
    """Return the grade in a cell ('3', '3.0', 'FST3', 'III'), '' where it is none of the scale."""
    text = cell.casefold().removeprefix("fst").removeprefix("type").strip()
    text = _ROMAN.get(text, text).removesuffix(".0")
    return str(int(text)) if text.isdecimal() and lowest <= int(text) <= highest else ""


def parse_columns(text: str) -> dict[str, str]:
    """Return role -> column of 'image=photo,label=finding', the text of `--columns`.

    Raises: ConfigError for another form, a role that is not in ROLES or is named twice, or a role without a column.
    """
    columns: dict[str, str] = {}
    for pair in _PAIRS.split(text):
        role, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or not column:
            raise ConfigError(
                f"--columns: '{pair.strip()}' is not ROLE=COLUMN",
                todo=f"For example: --columns image=photo,label=finding. Roles: {', '.join(ROLES)}.",
            )
        if one_of("role in --columns:", role, ROLES) in columns:
            raise ConfigError(f"--columns names the role '{role}' twice", todo="Give each role one column.")
        columns[role] = column
    return columns


def roles_of(table: Table, named: Mapping[str, str] | None = None) -> Roles:
    """Return the roles of a table's columns: those that `named` (role -> column) gives, else by their names."""
    columns = {fold_column(column) for column in table.columns}
    chosen = {role: fold_column(column) for role, column in (named or {}).items() if table.has(fold_column(column))}

    def present(role: str, names: tuple[str, ...]) -> tuple[str, ...]:
        return (chosen[role],) if role in chosen else tuple(name for name in names if name in columns)

    def first(role: str, names: tuple[str, ...]) -> str:
        return next(iter(present(role, names)), "")

    return Roles(
        image=first("image", IMAGE),
        labels=next((labels for names in LABELS if (labels := present("label", names))), ()),
        lesion=first("lesion", LESION),
        patient=first("patient", PATIENT),
        meta={name: known for name, names in {**META, "split": ()}.items() if (known := present(name, names))},
    )


def with_header(table: Table, images: Collection[str]) -> Table:
    """Return a table without a header (ISIC 2016) with one: its first row names an image. images: names without suffix.

    Raises: DataError for such a table with more or fewer than two columns.
    """
    if not table.columns or fold_column(table.columns[0]) in IMAGE or stem_of(table.columns[0]) not in images:
        return table
    if len(table.columns) != 2:
        raise DataError(f"its first row has no column names: {', '.join(table.columns[:5])}", where=table.name)
    first, second = (fold_column(column) for column in table.columns)
    pairs = [table.columns, *((row[first], row[second]) for row in table.rows)]
    binary = all(label.casefold() in {*_BINARY, *_BINARY.values()} for _, label in pairs)
    columns = ("image_id", "benign_malignant" if binary else "label")
    rows = tuple(dict(zip(columns, pair, strict=True)) for pair in pairs)
    lines = (min(table.lines, default=2) - 1, *table.lines)
    return Table(table.name, columns, rows, (*table.guesses, "no header"), lines)


def key_of(roles: Roles) -> str:
    """Return the column that names images or lesions, '' without one."""
    return roles.image or roles.lesion


def classes_of(table: Table, roles: Roles) -> list[str]:
    """Return the class columns, as written: those without another meaning."""
    others = {column for columns in roles.meta.values() for column in columns}
    no_class = {*_NO_CLASS, *IMAGE, *LESION, *PATIENT, roles.image, roles.lesion, roles.patient, *others}
    return [column for column in table.columns if column and fold_column(column) not in no_class]


def is_one_hot(table: Table, roles: Roles) -> bool:
    """Return True if the table has a column of 0 and 1 for each class."""
    classes = classes_of(table, roles)
    return (
        bool(key_of(roles) and table.rows)
        and len(classes) > 1
        and all(is_bit(table.rows[0][fold_column(name)]) for name in classes)
    )


def is_bit(text: str) -> bool:
    """Return True for a number that is 0 or 1."""
    try:
        return float(text.replace(",", ".")) in (0.0, 1.0)
    except ValueError:
        return False
