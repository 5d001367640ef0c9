"""Validate plain values (from JSON, TOML or a manifest) against a schema; errors state the position in the document.

A schema is a type: a dataclass, which allows no other keys; a TypedDict, which ignores other keys; or a builtin such
as `dict[str, Any]`. msgspec converts; this module adds the checks that it lacks: unknown keys, numbers and text that
other programs cannot represent, and nesting depth.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")
Position = tuple[Any, ...]  # keys and indices from a document's root to a value
DEEPEST = 64  # maximum nesting levels; our deepest document has 8
INTEGERS = range(-(2**63), 2**63)
PLAIN = (str, int, float, bool, type(None), Any)


class UnfitError(ValueError):
    """A value that does not match its schema. position: keys and indices from the document root."""

    def __init__(self, problem: str, position: Position = ()) -> None:
        super().__init__(f"{path_of(position)}: {problem}" if position else problem)


def path_of(position: Position) -> str:
    """Format a position, such as stages.export.files[3].sha256; keys with other characters are quoted in brackets."""
    parts = [
        f"[{step}]"
        if isinstance(step, int)
        else f".{step}"
        if re.fullmatch(r"[\w-]+", step)
        else f"[{json.dumps(step)}]"
        for step in position
    ]
    return "".join(parts).removeprefix(".")


def fit(raw: Any, kind: type[T], position: Position = ()) -> T:
    """Convert plain values to `kind`.

    Args:
        raw: dicts, lists, text, numbers, True, False and None.
        position: position of `raw` in its document, for the message.
    Raises: UnfitError; any SkinedgeError that a dataclass raises for a value out of range.
    """
    check_values(raw, position)
    refuse_unknown_keys(raw, kind, position)
    converted = _converted(raw, kind, position)
    return raw if is_typeddict(kind) else converted  # msgspec drops the keys that a TypedDict does not name


def check_values(value: Any, position: Position = ()) -> None:
    """Check that JSON can carry `value` to every reader.

    Raises: UnfitError for deep nesting, integers over 64 bits, numbers that are not finite, lone surrogates and dates.
    """
    if len(position) > DEEPEST:
        raise UnfitError(f"nested more than {DEEPEST} levels deep", position[:3])
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(key, position)
            check_values(item, (*position, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check_values(item, (*position, index))
    elif isinstance(value, str):
        _check_text(value, position)
    elif isinstance(value, int):
        if value not in INTEGERS:
            raise UnfitError("integer of more than 64 bits", position)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise UnfitError(f"{value} is not a finite number", position)
    elif value is not None:
        raise UnfitError(f"unexpected {type(value).__name__}", position)


def _check_text(text: object, position: Position) -> None:
    if not isinstance(text, str):
        raise UnfitError("a key is not text", position)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UnfitError("text that is not Unicode (a lone surrogate)", position)


def refuse_unknown_keys(value: Any, kind: Any, position: Position = ()) -> None:
    """Check the keys of `value` at any depth. Raises: UnfitError for a key that its dataclass does not have."""
    if kind in PLAIN:
        return
    if is_dataclass(kind) or is_typeddict(kind):
        _refuse_in_fields(value, kind, position)
        return
    arguments = get_args(kind)
    if isinstance(value, Mapping) and get_origin(kind) in (dict, Mapping):
        for key, item in value.items():
            refuse_unknown_keys(item, arguments[1], (*position, key))
    elif isinstance(value, list | tuple) and get_origin(kind) in (list, tuple):
        kinds = arguments if len(arguments) == len(value) and ... not in arguments else arguments[:1] * len(value)
        for index, (item, item_kind) in enumerate(zip(value, kinds, strict=True)):
            refuse_unknown_keys(item, item_kind, (*position, index))
    else:  # a union: at most one of its types has keys
        for option in arguments:
            refuse_unknown_keys(value, option, position)


def _refuse_in_fields(value: Any, kind: Any, position: Position) -> None:
    if not isinstance(value, Mapping):
        return
    fields = _fields(kind)
    for key, item in value.items():
        if key in fields:
            refuse_unknown_keys(item, fields[key], (*position, key))
        elif is_dataclass(kind):
            raise UnfitError(f"unknown key '{path_of((*position, key))}'; valid: {', '.join(fields)}")


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _converted(raw: Any, kind: type[T], position: Position) -> T:
    import msgspec

    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        message = str(error)
    except RecursionError:
        raise UnfitError("nested too deep", position) from None
    problem, _, path = message.partition(" - at ")

    def fails(changed: Any) -> bool:
        try:
            msgspec.convert(changed, kind)
        except msgspec.ValidationError as error:
            return str(error) == message
        return False

    raise UnfitError(_plain(problem), (*position, *_located(raw, path, fails)))


def _plain(problem: str) -> str:
    """Return msgspec's message without its quotes."""
    missing = re.fullmatch(r"Object missing required field `(.*)`", problem)
    if missing:
        return f"'{missing[1]}' is missing"
    return problem[:1].lower() + problem[1:].replace("`", "")


def _located(raw: Any, path: str, fails: Callable[[Any], bool]) -> Position:
    """Resolve a path from msgspec, such as `$.stages[...].files[3]`, where [...] stands for an unnamed key."""
    document = copy.deepcopy(raw)
    node, position = document, []
    for field, index in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", path.rpartition("$")[2]):
        step = field or (_failing_key(node, lambda: fails(document)) if index == "..." else int(index))
        position.append(step)
        node = node[step]
    return tuple(position)


def _failing_key(node: dict[str, Any], fails: Callable[[], bool]) -> str:
    """Find the key whose value makes the conversion fail, by bisecting `node`."""
    while len(node) > 1:
        items = list(node.items())
        half = len(items) // 2
        node.clear()
        node.update(items[:half])
        if not fails():
            node.clear()
            node.update(items[half:])
    return next(iter(node))
