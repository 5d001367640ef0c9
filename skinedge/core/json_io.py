"""JSON and TOML: one reader for every document that the project takes in, and JSON as it writes it."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from skinedge.core import schemas
from skinedge.core.errors import BundleError, ConfigError, SkinedgeError
from skinedge.core.files import read_regular

T = TypeVar("T")
Refusal = Callable[..., SkinedgeError]  # makes the error from (what, where=, todo=): a kind of SkinedgeError, `refusal`
JSON_BYTES = 16 << 20  # the largest report of ours has 1 MB
TOML_BYTES = 64 << 10
TOML_DOTS = 128  # in a line: tomllib's time grows with the square of a dotted key's length


def read_json(path: Path, kind: type[T], *, error: Refusal = BundleError, most: int = JSON_BYTES) -> T:
    """Read a JSON file as `kind`; see `skinedge.core.schemas` for what a kind is.

    Args:
        error: what is raised; most: bytes at most.
    Raises: `error` that names the file, the place in it and what was expected.
    """
    return parse_json(read_regular(path, most, error), kind, str(path), error=error, most=most)


def parse_json(
    text: str | bytes, kind: type[T], where: str, *, error: Refusal = BundleError, most: int = JSON_BYTES
) -> T:
    """Read JSON text as `kind`. where: what the text is, for the message. NaN, Infinity, repeated keys, a byte order
    mark and another encoding than UTF-8 are refused.

    Raises: `error`.
    """
    if len(text) > most:
        raise error(f"longer than {most >> 10} KiB", where=where)
    try:
        if isinstance(text, bytes):
            text = text.decode()
        raw = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise error("not valid JSON (nested too deep)", where=where) from None
    except ValueError as problem:
        raise error(f"not valid JSON ({problem})", where=where) from None
    return build(raw, kind, where, error=error)


def read_toml(path: Path, kind: type[T], *, error: Refusal = ConfigError) -> T:
    """Read a TOML file as `kind`; as `read_json`."""
    return parse_toml(read_regular(path, TOML_BYTES, error), kind, str(path), error=error)


def parse_toml(text: str | bytes, kind: type[T], where: str, *, error: Refusal = ConfigError) -> T:
    """Read TOML text as `kind`; as `parse_json`."""
    if len(text) > TOML_BYTES:
        raise error(f"longer than {TOML_BYTES >> 10} KiB", where=where)
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if any(line.count(".") > TOML_DOTS for line in text.splitlines()):
            raise ValueError(f"a line with more than {TOML_DOTS} dots")
        raw = tomllib.loads(text)
    except RecursionError:
        raise error("not valid TOML (nested too deep)", where=where) from None
    except ValueError as problem:
        raise error(f"not valid TOML ({problem})", where=where) from None
    return build(raw, kind, where, error=error)


def build(raw: Any, kind: type[T], where: str, *, error: Refusal = BundleError) -> T:
    """Convert plain values, of a document or a part of it, to `kind`. Raises: `error`."""
    try:
        return schemas.fit(raw, kind)
    except schemas.UnfitError as problem:
        raise error(str(problem), where=where) from None
    except SkinedgeError as problem:  # of a dataclass that checks its values
        raise error(problem.what, where=problem.where or where, todo=problem.todo) from None


def refusal(what: str, error: type[SkinedgeError] = BundleError, todo: str | None = None) -> Refusal:
    """The `error` of a reader with more to say. what: what the file cannot be read as, before the problem; todo: how to
    mend it.
    """

    def refuse(problem: str, *, where: str | None = None, todo: str | None = todo) -> SkinedgeError:
        return error(f"{what} ({problem})", where=where, todo=todo)

    return refuse


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Raises: ValueError for a key that comes twice: readers differ in which one they take."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {json.dumps(key)} comes twice")
        made[key] = value
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def finite(value: Any) -> Any:
    """`value` with every float that JSON cannot hold replaced by None, at any depth."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def document(
    command: str, body: Mapping[str, Any], *, model_id: str | None, model_sha256: str | None
) -> dict[str, Any]:
    """What `command` reports, under the header that every document has; undefined numbers are null."""
    header = {"schema": f"skinedge.{command}/1", "model_id": model_id, "model_sha256": model_sha256}
    return {**header, **{key: finite(value) for key, value in body.items()}}


def digest(value: Any) -> str:
    """sha256, in hex, of plain values as JSON; the order of a mapping's keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def to_text(document: Mapping[str, Any]) -> str:
    """The text of a report file."""
    return json.dumps(finite(document), indent=2, allow_nan=False) + "\n"
