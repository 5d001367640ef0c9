"""How many inferences a benchmark makes, read from protocols/*.toml."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from skinedge.core.errors import ConfigError, one_of
from skinedge.core.json_io import build, parse_toml


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
    folder = files("skinedge_bench").joinpath("latency", "protocols")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read_protocol(name: str) -> Protocol:
    """Raises: ConfigError for an unknown name (listing the known ones) or a file with other keys."""
    one_of("protocol", name, protocol_names())
    text = files("skinedge_bench").joinpath("latency", "protocols", f"{name}.toml").read_text(encoding="utf-8")
    raw = parse_toml(text, dict[str, Any], f"{name}.toml")
    return build({**raw, "name": name}, Protocol, f"{name}.toml", error=ConfigError)
