"""Read and validate JSON and TOML documents; write JSON reports."""

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
Refusal = Callable[..., SkinedgeError]  # (what, where=, todo=) -> error: a SkinedgeError class, or from `refusal`
JSON_BYTES = 16 << 20  # our largest report has 1 MB
VERSIONS = {"verify": 2}  # of the schemas that changed; all others are at 1
TOML_BYTES = 64 << 10
TOML_DOTS = 128  # per line: tomllib's time is quadratic in a dotted key's length


def read_json(path: Path, kind: type[T], *, error: Refusal = BundleError, most: int = JSON_BYTES) -> T:
    """Read a JSON file as `kind`, a schema type of `skinedge.core.schemas`.

    Args:
        error: creates the exception; most: maximum size in bytes.
    Raises: `error` with the file, the position in the document and the expected value.
    """
    return parse_json(read_regular(path, most, error), kind, str(path), error=error, most=most)


def parse_json(
    text: str | bytes, kind: type[T], where: str, *, error: Refusal = BundleError, most: int = JSON_BYTES
) -> T:
    """Read JSON text as `kind`; refuses NaN, Infinity, duplicate keys, a byte order mark and encodings besides UTF-8.

    Args:
        where: name of the text, for the message.
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
    """Read a TOML file as `kind`; raises `error` as `read_json` does."""
    return parse_toml(read_regular(path, TOML_BYTES, error), kind, str(path), error=error)


def parse_toml(text: str | bytes, kind: type[T], where: str, *, error: Refusal = ConfigError) -> T:
    """Read TOML text as `kind`; raises `error` as `parse_json` does."""
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
    """Convert the plain values of a document, or of a part of one, to `kind`. Raises: `error`."""
    try:
        return schemas.fit(raw, kind)
    except schemas.UnfitError as problem:
        raise error(str(problem), where=where) from None
    except SkinedgeError as problem:  # from a dataclass that validates its values
        raise error(problem.what, where=problem.where or where, todo=problem.todo) from None


def refusal(what: str, error: type[SkinedgeError] = BundleError, todo: str | None = None) -> Refusal:
    """Return an error factory for readers that adds `what` before the problem, and `todo`, the fix."""

    def refuse(problem: str, *, where: str | None = None, todo: str | None = todo) -> SkinedgeError:
        return error(f"{what} ({problem})", where=where, todo=todo)

    return refuse


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object. Raises: ValueError for a duplicate key: JSON readers differ in the value they use."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"duplicate key {json.dumps(key)}")
        values[key] = value
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def finite(value: Any) -> Any:
    """Return `value` with NaN and infinite floats replaced by None, at any depth."""
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
    """Build the report of `command`: `body` below the common header; NaN and infinite numbers become null."""
    header = {
        "schema": f"skinedge.{command}/{VERSIONS.get(command, 1)}",
        "model_id": model_id,
        "model_sha256": model_sha256,
    }
    return {**header, **{key: finite(value) for key, value in body.items()}}


def digest(value: Any) -> str:
    """Return the sha256 (hex) of plain values as JSON; independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def to_text(document: Mapping[str, Any] | list[dict[str, Any]]) -> str:
    """Return a report as the text of its JSON file."""
    return json.dumps(finite(document), indent=2, allow_nan=False) + "\n"
