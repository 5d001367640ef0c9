"""Which classes are cancer: one table of skin conditions, each benign, premalignant or malignant.

The table is taxonomy.toml beside this file. A name that it does not know is an error, never benign.
"""

from __future__ import annotations

import functools
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
# Names that say nothing of what is in the class: only the user can.
_VAGUE = frozenset({"unk", "unknown", "other", "none", "misc", "miscellaneou", "undefined", "indeterminate"})
_SPELLINGS = (
    (r"\bnaev", "nev"),
    (r"\bnevi\b", "nevus"),
    (r"oses\b", "osis"),
    (r"ases\b", "asis"),
    (r"mata\b", "ma"),
    (r"\bhaem", "hem"),
    (r"tumour", "tumor"),
)
# What folders and tables add to a name: '2. Melanoma 15.75k', 'Eczema Photos', 'Nevus, NOS', 'melanoma (in situ)'.
_ADDITIONS = (
    (r"^\s*\d+\s*[.)]\s*", ""),
    (r"[\s-]+\d+(\.\d+)?k?\s*$", ""),
    (r"\s*\([^()]*\)", ""),
    (r",?\s+NOS$", ""),
    (r"\s+(photos|pictures)$", ""),
)


@dataclass(frozen=True)
class Condition:
    """One row of the table.

    group: one of GROUPS; source: the publication or documentation it is from; mixed: holds several groups, of which
    `group` is the worst.
    """

    name: str
    group: str
    aliases: tuple[str, ...]
    source: str
    mixed: bool = False


@dataclass(frozen=True)
class Table:
    """taxonomy.toml."""

    condition: tuple[Condition, ...]


def resolve(name: str) -> Condition:
    """The condition that a class name means, however it is spelt.

    Raises: DataError for a name that the table does not have, or that says nothing ('unknown', 'other').
    """
    found = find(name)
    if found is not None:
        return found
    vague = fold(name) in _VAGUE
    raise DataError(
        f"class '{name}' " + ("does not say what it holds" if vague else "is not in the table of skin conditions"),
        todo="Say whether it is benign, premalignant or malignant (or name a known condition) in a TOML file "
        f'given with --config:\n[taxonomy]\n"{name}" = "malignant"',
    )


def find(name: str) -> Condition | None:
    """Return the condition that a class name means, None for a name that the table does not have.

    A name that the table does not have is looked up again without numbers, counts, brackets and 'photos'.
    """
    plain = name
    for pattern, replacement in _ADDITIONS:
        plain = re.sub(pattern, replacement, plain, flags=re.IGNORECASE)
    return _by_name().get(fold(name)) or _by_name().get(fold(plain))


def mixed_classes(labels: Sequence[str]) -> list[str]:
    """Return the labels that mix groups, of which the worst one counts."""
    return [label for label in labels if (condition := find(label)) is not None and condition.mixed]


def groups(labels: Sequence[str], overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """The group of every label.

    overrides: label -> a group, or the name of a known condition; a key that is no label as it stands is
        taken for the label of the same folded spelling.
    Raises: DataError for a label that neither the table nor `overrides` knows; ConfigError for an override
        of a label that is not there, with a value that is neither group nor condition, or for two labels or
        two overrides whose folded spelling is the same.
    """
    wanted = _overridden(labels, overrides)
    unknown = [label for label, known in wanted.items() if known is None and find(label) is None]
    if len(unknown) > 1:
        lines = "\n".join(f'"{label}" = ""' for label in unknown)
        raise DataError(
            f"{len(unknown)} classes are not in the table of skin conditions, or say nothing: {_list(unknown)}",
            todo="Say of each whether it is benign, premalignant or malignant (or name a known condition) in a TOML "
            f"file given with --config:\n[taxonomy]\n{lines}",
        )
    return {label: _group(label, known) for label, known in wanted.items()}


def melanoma(labels: Sequence[str], overrides: Mapping[str, str] | None = None) -> str | None:
    """The class that is melanoma, None where there is none.

    Raises: DataError when two classes are melanoma; ConfigError as `groups`.
    """
    found = []
    for label, known in _overridden(labels, overrides).items():
        condition = find(label if known is None else known)
        if condition is not None and condition.name == MELANOMA:
            found.append(label)
    if len(found) > 1:
        raise DataError(
            f"two classes mean melanoma: {_list(found)}",
            todo=f'Merge them, or say in a TOML file given with --config:\n[taxonomy]\n"{found[-1]}" = "malignant"',
        )
    return found[0] if found else None


def fold(name: str) -> str:
    """Lower case, no accents, one space between words, singular, American spelling; letters of any script stay."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c)).replace("'", "").replace("\u2019", "")
    plain = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain)
    for pattern, replacement in _SPELLINGS:
        plain = re.sub(pattern, replacement, plain)
    return " ".join(_singular(word) for word in plain.split())


def _singular(word: str) -> str:
    keeps = len(word) <= 3 or word.endswith(("ss", "us", "is"))
    return word if keeps else word.removesuffix("s")


def _overridden(labels: Sequence[str], overrides: Mapping[str, str] | None) -> dict[str, str | None]:
    """label -> what `overrides` says of it, or None. A key that is a label, letter for letter, means that one."""
    given = overrides or {}
    _refuse_alike("classes", labels, given)
    _refuse_alike("[taxonomy] keys", tuple(given), labels)
    folded = {fold(label): value for label, value in given.items() if label not in labels}
    open_to = {fold(label) for label in labels if label not in given} - {""}
    unused = sorted(label for label in given if label not in labels and fold(label) not in open_to)
    if unused:
        what = f"[taxonomy] names classes that the data lacks: {_list(unused)}"
        raise ConfigError(what, todo=f"Classes: {_list(labels)}.")
    for value in given.values():
        if value not in GROUPS and find(value) is None:
            raise ConfigError(f"[taxonomy] value '{value}' is no known condition", todo=f"Or a group: {_list(GROUPS)}.")
    return {label: given.get(label, folded.get(fold(label))) for label in labels}


def _refuse_alike(what: str, names: Sequence[str], exact: Collection[str]) -> None:
    """Raises: ConfigError when a name that is not in `exact` is, folded, the same as another."""
    counts = Counter(fold(name) for name in names)
    alike = [name for name in names if name not in exact and counts[fold(name)] > 1]
    if alike:
        raise ConfigError(
            f"{what} that differ only in spelling or signs: {_list(alike)}",
            todo="Name each class in [taxonomy] exactly as the data does.",
        )


def _group(label: str, known: str | None) -> str:
    return known if known in GROUPS else resolve(label if known is None else known).group


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)


@functools.cache
def conditions() -> tuple[Condition, ...]:
    """Every row of the table, in its order."""
    text = files("skinedge.core").joinpath("taxonomy.toml").read_bytes()
    return json_io.parse_toml(text, Table, "taxonomy.toml").condition


@functools.cache
def _by_name() -> dict[str, Condition]:
    found: dict[str, Condition] = {}
    for condition in conditions():
        for name in (condition.name, *condition.aliases):
            other = found.setdefault(fold(name), condition)
            if other is not condition:
                raise ConfigError(f"taxonomy.toml gives '{name}' to both '{other.name}' and '{condition.name}'")
    return found
