"""Benchmark protocols: numbers of inferences, read from protocols/*.toml."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from skinedge.core.errors import ConfigError, one_of
from skinedge.core.json_io import build, parse_toml


@dataclass(frozen=True)
class Protocol:
    """Numbers of inferences of a benchmark.

    warmup: uncounted inferences per file; block: consecutive inferences of one file; blocks: least number per file;
    min_seconds: least measured time per file; headline: percentile for comparisons, 50 or 90; on_request: runtimes
    that are used only if named.
    """

    name: str
    warmup: int
    block: int
    blocks: int
    min_seconds: float
    headline: int = 50
    on_request: tuple[str, ...] = ()


def protocol_names() -> list[str]:
    """Return the names of the installed protocols, sorted."""
    folder = files("skinedge_bench").joinpath("latency", "protocols")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read_protocol(name: str) -> Protocol:
    """Read a protocol. Raises: ConfigError for an unknown name (listing the valid ones) or unknown keys."""
    one_of("protocol", name, protocol_names())
    text = files("skinedge_bench").joinpath("latency", "protocols", f"{name}.toml").read_text(encoding="utf-8")
    raw = parse_toml(text, dict[str, Any], f"{name}.toml")
    return build({**raw, "name": name}, Protocol, f"{name}.toml", error=ConfigError)
