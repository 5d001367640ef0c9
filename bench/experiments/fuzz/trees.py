"""Mutations of the values, keys and nesting of JSON and TOML documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from experiments.fuzz.mutate import NAMES

Tree = Any


@dataclass(frozen=True)
class Raw:
    """Literal text in place of a value."""

    text: str


NUMBERS = (
    0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 1e308, -1e308, 5e-324, 0.1, Raw("NaN"), Raw("Infinity"), Raw("-Infinity"),
    Raw("1e999"), Raw("9" * 400), Raw("9" * 5000), Raw("1" + "0" * 20000), Raw("-0"), Raw("0x10"), Raw("1E400"),
)  # fmt: skip
VALUES = (None, True, False, "", [], {}, [None], {"": None}, "0", "true", [[]], [1, 2, 3], {"a": 1}, "NaN")
DEEP = (500, 2000, 100_000)


def mutated(rng: Random, tree: Tree, times: int | None = None) -> Tree:
    """Change one to three places of the tree, in place, and return it."""
    holder = [tree]
    for _ in range(times or rng.choice((1, 1, 1, 2, 3))):
        container, key = rng.choice(places(holder) or [(holder, 0)])
        rng.choice(OPERATIONS)(rng, container, key) if holder else None
    return holder[0] if holder else None


def places(tree: Tree) -> list[tuple[Any, Any]]:
    """Return (container, key or index) of every value."""
    result: list[tuple[Any, Any]] = []
    pending = [tree]
    while pending:
        container = pending.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in items:
            result.append((container, key))
            if isinstance(value, dict | list):
                pending.append(value)
    return result


def replace_value(rng: Random, container: Any, key: Any) -> None:
    container[key] = rng.choice((rng.choice(NUMBERS), rng.choice(VALUES), rng.choice(NAMES)))


def nudge(rng: Random, container: Any, key: Any) -> None:
    """Replace a value by one of the same type, which a type check accepts."""
    value = container[key]
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, int | float):
        container[key] = rng.choice((-value, value + 1, value * 2, value / 2, value * 1e9, rng.choice(NUMBERS)))
    elif isinstance(value, str):
        cut = rng.randrange(len(value) + 1)
        container[key] = rng.choice(
            (value + rng.choice(NAMES), value[:cut], value.upper(), rng.choice(NAMES), value + " ")
        )
    else:
        replace_value(rng, container, key)


def nest(rng: Random, container: Any, key: Any) -> None:
    depth, array = rng.choice(DEEP), rng.random() < 0.5
    container[key] = Raw("[" * depth + "]" * depth if array else '{"a":' * depth + "1" + "}" * depth)


def lengthen(rng: Random, container: Any, key: Any) -> None:
    size = rng.choice((1000, 100_000, 2_000_000))
    container[key] = rng.choice(("x" * size, [0] * (size // 10), {str(index): index for index in range(size // 100)}))


def drop(rng: Random, container: Any, key: Any) -> None:
    del container[key]


def add(rng: Random, container: Any, key: Any) -> None:
    value = rng.choice((rng.choice(VALUES), rng.choice(NAMES)))
    if isinstance(container, dict):
        container[rng.choice(("unknown", *NAMES))] = value
    else:
        container.insert(rng.randrange(len(container) + 1), value)


def swap(rng: Random, container: Any, key: Any) -> None:
    keys = list(container) if isinstance(container, dict) else range(len(container))
    other = rng.choice(list(keys))
    container[key], container[other] = container[other], container[key]


def move(rng: Random, container: Any, key: Any) -> None:
    """Move a value to another key."""
    if isinstance(container, dict):
        container[rng.choice((key + "s", key.upper(), f" {key}", rng.choice(NAMES)))] = container.pop(key)
    else:
        container.append(container.pop(key))


OPERATIONS: tuple[Callable[[Random, Any, Any], None], ...] = (
    replace_value, replace_value, nudge, nudge, nudge, nest, lengthen, drop, add, swap, swap, move,
)  # fmt: skip


def to_json(rng: Random, tree: Tree) -> bytes:
    """Return the tree as JSON; rarely with a duplicate key or a byte order mark."""
    text = written(tree)
    if rng.random() < 0.03 and text.startswith("{") and len(text) > 2:
        text = '{"schema": "other", ' + text[1:] if rng.random() < 0.5 else text[:-1] + ', "schema": 1}'
    if rng.random() < 0.02:
        text = "\ufeff" + text
    return text.encode("utf-8", "surrogatepass" if rng.random() < 0.5 else "backslashreplace")


def written(tree: Tree) -> str:
    """Return JSON text, with `Raw` literally and NaN and infinities as in Python."""
    texts: list[Raw] = []

    def mark(raw: Raw) -> str:
        texts.append(raw)
        return f"\0{len(texts) - 1}\0"

    text = json.dumps(tree, default=mark)
    for number, raw in enumerate(texts):
        text = text.replace(f'"\\u0000{number}\\u0000"', raw.text, 1)
    return text


def to_toml(tree: Tree) -> bytes:
    """Return the tree as TOML: values first, then tables."""
    if not isinstance(tree, dict):
        return _toml(tree).encode("utf-8", "surrogatepass")
    lines = [f"{_key(name)} = {_toml(value)}" for name, value in tree.items() if not isinstance(value, dict)]
    for name, table in tree.items():
        if isinstance(table, dict):
            lines += [f"[{_key(name)}]", *(f"{_key(key)} = {_toml(value)}" for key, value in table.items())]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def _key(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else json.dumps(name)


def _toml(value: Tree) -> str:
    if isinstance(value, Raw):
        return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}.get(
            value.text, value.text.replace('{"a":', "{a = ")
        )
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return '""' if value is None else json.dumps(value, ensure_ascii=False)
