"""How many inferences a benchmark makes, read from protocols/*.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files

from skinedge.errors import ConfigError, one_of


@dataclass(frozen=True)
class Protocol:
    """warmup: inferences a file that are not counted; block: inferences in a row before the next file has
    its turn; blocks: at least so many a file, and more until min_seconds of measured time a file are reached;
    headline: the percentile that files are compared by, 50 or 90; on_request: runtimes that are left out unless they
    are asked for by name.
    """

    name: str
    warmup: int
    block: int
    blocks: int
    min_seconds: float
    headline: int = 50
    on_request: tuple[str, ...] = ()


def protocol_names() -> list[str]:
    """The protocols that are installed, sorted."""
    folder = files("skinedge_bench").joinpath("protocols")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read_protocol(name: str) -> Protocol:
    """Raises: ConfigError for an unknown name (listing the known ones) or a file with other keys."""
    one_of("protocol", name, protocol_names())
    text = files("skinedge_bench").joinpath("protocols", f"{name}.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(text)
    expected = {field.name for field in fields(Protocol)} - {"name"}
    if set(raw) != expected:
        raise ConfigError(f"protocol has keys {sorted(raw)}, expected {sorted(expected)}", where=f"{name}.toml")
    return Protocol(**{"name": name, **raw, "on_request": tuple(raw["on_request"])})
