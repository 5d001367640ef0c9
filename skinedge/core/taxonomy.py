"""Map class names to skin conditions, each benign, premalignant or malignant.

The table of conditions is taxonomy.toml beside this file. A name that is not in it is an error, never benign.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from skinedge.core import json_io
from skinedge.core.errors import ConfigError, DataError

GROUPS = ("benign", "premalignant", "malignant")
MELANOMA = "melanoma"
# Names without a meaning: only the user knows what the class contains.
_VAGUE = frozenset({"unk", "unknown", "other", "none", "misc", "undefined"})
_SPELLINGS = (
    (r"\bnaev", "nev"),
    (r"\bnevi\b", "nevus"),
    (r"oses\b", "osis"),
    (r"ases\b", "asis"),
    (r"mata\b", "ma"),
    (r"\bhaem", "hem"),
    (r"tumour", "tumor"),
)
# What folders and tables add to a name: '2. Melanoma 15.75k', 'Eczema Photos', 'Nevus, NOS'.
_ADDITIONS = (r"^\s*\d+\s*[.)]\s*", r"[\s-]+\d+(\.\d+)?k?\s*$", r",?\s+NOS$", r"\s+(photos|pictures)$")
_BRACKETS = re.compile(r"\s*\(([^()]*)\)")


@dataclass(frozen=True)
class Condition:
    """One row of the table.

    group: one of GROUPS; source: the publication or documentation of the group; mixed: the class holds several groups,
    and `group` is the worst of them; part_of: name of a condition that includes this one, '' for none.
    """

    name: str
    group: str
    aliases: tuple[str, ...]
    source: str
    mixed: bool = False
    part_of: str = ""


@dataclass(frozen=True)
class Family:
    """Conditions that share all but their names; fields as in `Condition`."""

    names: tuple[str, ...]
    group: str
    source: str
    mixed: bool = False
    part_of: str = ""

    def conditions(self) -> tuple[Condition, ...]:
        """Return one condition for each name."""
        return tuple(Condition(name, self.group, (), self.source, self.mixed, self.part_of) for name in self.names)


@dataclass(frozen=True)
class Doubtful:
    """Names of public datasets without a group, and why: only the user knows what the images show."""

    names: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Table:
    """Content of taxonomy.toml."""

    condition: tuple[Condition, ...]
    family: tuple[Family, ...]
    doubtful: tuple[Doubtful, ...]


def resolve(name: str) -> Condition:
    """Return the condition of a class name, in any spelling.

    Raises: DataError for a name that is not in the table or has no meaning ('unknown', 'other').
    """
    condition = find(name)
    if condition is not None:
        return condition
    vague = fold(name) in _VAGUE
    raise DataError(
        f"class '{name}' " + ("does not name a condition" if vague else "is not in the table of skin conditions"),
        todo=remedy([name]),
    )


def remedy(unknown: Sequence[str]) -> str:
    """Return what to do about classes without a group: a block for a TOML file, its values to be filled in."""
    which = "it" if len(unknown) == 1 else "each"
    values = f"{', '.join(GROUPS)} or the name of a known condition"
    return f"Set {which} to {values} in a TOML file given with --config:\n{block(unknown)}"


def block(labels: Sequence[str], value: str = "") -> str:
    """Return the [taxonomy] table of a TOML file that sets each label to `value`, with what is doubtful about it."""
    lines = []
    for label in labels:
        reason = _doubts().get(_plain(label))
        lines.append(f'{json.dumps(label, ensure_ascii=False)} = "{value}"' + (f"  # {reason}" if reason else ""))
    return "\n".join(["[taxonomy]", *lines])


def find(name: str) -> Condition | None:
    """Return the condition that a class name means, None for a name that the table does not have.

    A name that the table does not have is looked up again without numbers, counts, 'photos', and brackets that add no
    meaning: an abbreviation of the same condition, or any addition to a malignant one.
    """
    return _by_name().get(fold(name)) or _by_name().get(_plain(name)) or _without_brackets(name)


def _plain(name: str) -> str:
    """Return the folded name without what folders and tables add to it."""
    for pattern in _ADDITIONS:
        name = re.sub(pattern, "", name, flags=re.IGNORECASE)
    return fold(name)


def _without_brackets(name: str) -> Condition | None:
    """Return the condition before or around brackets; None where they may change the group: 'nevus (growing)'."""
    inside = _BRACKETS.findall(name)
    condition = _by_name().get(_plain(_BRACKETS.sub("", name))) if inside else None
    if condition is None or condition.group == "malignant":
        return condition
    return condition if all(_by_name().get(fold(text)) is condition for text in inside) else None


def includes(broad: Condition, condition: Condition) -> bool:
    """Return True if `condition` is `broad`, or a part of it."""
    while condition != broad and condition.part_of:
        condition = _by_name()[fold(condition.part_of)]
    return condition == broad


def full_name(label: str) -> str:
    """Return the name of the condition that a label means ('mel': 'melanoma'), the label itself if it is not known."""
    condition = find(label)
    return label if condition is None else condition.name


def label_of(name: str, labels: Sequence[str]) -> str:
    """Return the label that a name means: itself, else the one label of the same condition ('melanoma': 'mel').

    Raises: ConfigError for a name that is none of the labels, or fits several.
    """
    if name in labels:
        return name
    condition = find(name)
    same = [label for label in labels if fold(label) == fold(name)] or [
        label for label in labels if condition is not None and find(label) is condition
    ]
    if len(same) != 1:
        what = f"class '{name}' fits several of the model's classes" if same else f"the model has no class '{name}'"
        raise ConfigError(what, todo=f"It has: {_list(same or labels)}.")
    return same[0]


def mixed_classes(labels: Sequence[str]) -> list[str]:
    """Return the labels that mix groups, of which the worst one counts."""
    return [label for label in labels if (condition := find(label)) is not None and condition.mixed]


def groups(labels: Sequence[str], overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the group of every label.

    overrides: label -> a group, or the name of a known condition; a key that matches no label exactly applies
        to the label with the same folded spelling.
    Raises: DataError for a label that is in neither the table nor `overrides`; ConfigError for an override
        of a missing label or with a value that is neither group nor condition, and for two labels or two
        overrides with the same folded spelling.
    """
    wanted = _overridden(labels, overrides)
    unknown = [label for label, override in wanted.items() if override is None and find(label) is None]
    if len(unknown) > 1:
        what = f"{len(unknown)} classes are not in the table of skin conditions: {_list(unknown)}"
        raise DataError(what, todo=remedy(unknown))
    return {label: _group(label, override) for label, override in wanted.items()}


def parts_of_melanoma(labels: Sequence[str]) -> list[str]:
    """Return the labels that name a kind of melanoma: 'melanoma in situ', 'nodular melanoma'."""
    general = resolve(MELANOMA)
    kinds = [(label, find(label)) for label in labels]
    return [label for label, kind in kinds if kind is not None and kind is not general and includes(general, kind)]


def melanoma(labels: Sequence[str], overrides: Mapping[str, str] | None = None) -> str | None:
    """Return the melanoma class, None if there is none.

    Raises: DataError when two classes are melanoma; ConfigError as `groups`.
    """
    melanoma_labels = []
    for label, override in _overridden(labels, overrides).items():
        condition = find(label if override is None else override)
        if condition is not None and condition.name == MELANOMA:
            melanoma_labels.append(label)
    if len(melanoma_labels) > 1:
        count = "two" if len(melanoma_labels) == 2 else len(melanoma_labels)
        raise DataError(
            f"{count} classes mean melanoma: {_list(melanoma_labels)}",
            todo="Merge them, or set all but one to malignant in a TOML file given with --config:\n"
            + block(melanoma_labels[1:], "malignant"),
        )
    return melanoma_labels[0] if melanoma_labels else None


def fold(name: str) -> str:
    """Fold a name: lower case, no accents, single spaces, singular, American spelling; letters of any script stay."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c)).replace("'", "").replace("\u2019", "")
    plain = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain)
    for pattern, replacement in _SPELLINGS:
        plain = re.sub(pattern, replacement, plain)
    return " ".join(_singular(word) for word in plain.split())


def _singular(word: str) -> str:
    unchanged = len(word) <= 3 or word.endswith(("ss", "us", "is"))
    return word if unchanged else word.removesuffix("s")


def _overridden(labels: Sequence[str], overrides: Mapping[str, str] | None) -> dict[str, str | None]:
    """Return label -> its override, or None. Exact keys take precedence over keys with the same folded spelling."""
    exact = overrides or {}
    _refuse_alike("classes", labels, exact)
    _refuse_alike("[taxonomy] keys", tuple(exact), labels)
    folded = {fold(label): value for label, value in exact.items() if label not in labels}
    remaining = {fold(label) for label in labels if label not in exact} - {""}
    unused = sorted(label for label in exact if label not in labels and fold(label) not in remaining)
    if unused:
        what = f"[taxonomy] names classes that the data lacks: {_list(unused)}"
        raise ConfigError(what, todo=f"Classes: {_list(labels)}.")
    for value in exact.values():
        if value not in GROUPS and find(value) is None:
            todo = f"Use a known condition or a group: {_list(GROUPS)}."
            raise ConfigError(f"[taxonomy] value '{value}' is not a known condition", todo=todo)
    return {label: exact.get(label, folded.get(fold(label))) for label in labels}


def _refuse_alike(what: str, names: Sequence[str], exact: Collection[str]) -> None:
    """Check for ambiguous names. Raises: ConfigError when a name not in `exact` has the folded spelling of another."""
    counts = Counter(fold(name) for name in names)
    alike = [name for name in names if name not in exact and counts[fold(name)] > 1]
    if alike:
        raise ConfigError(
            f"{what} that differ only in spelling or punctuation: {_list(alike)}",
            todo="Name each class in [taxonomy] exactly as in the data.",
        )


def _group(label: str, override: str | None) -> str:
    return override if override in GROUPS else resolve(label if override is None else override).group


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


@functools.cache
def _table() -> Table:
    text = files("skinedge.core").joinpath("taxonomy.toml").read_bytes()
    return json_io.parse_toml(text, Table, "taxonomy.toml")


@functools.cache
def conditions() -> tuple[Condition, ...]:
    """Return every row of the table: the conditions in file order, then those of the families."""
    return (*_table().condition, *(row for family in _table().family for row in family.conditions()))


@functools.cache
def _doubts() -> dict[str, str]:
    """Folded name -> why it has no group."""
    return {fold(name): row.reason for row in _table().doubtful for name in row.names}


@functools.cache
def _by_name() -> dict[str, Condition]:
    by_name: dict[str, Condition] = {}
    for condition in conditions():
        for name in (condition.name, *condition.aliases):
            other = by_name.setdefault(fold(name), condition)
            if other is not condition:
                raise ConfigError(f"taxonomy.toml gives '{name}' to both '{other.name}' and '{condition.name}'")
    return by_name
