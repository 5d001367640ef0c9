"""A TOML file of all settings with their defaults, to be edited and given to --config."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import tomli_w

from skinedge.run.config import TrainConfig

HEADER = "Settings of `skinedge train` and `skinedge run`, each with its default: --config FILE. Options override them."
EXAMPLES = {"limit": 2000, "domain": "dermoscopic", "license": "CC-BY-4.0"}  # of settings that have no default
TAXONOMY = '[taxonomy]\n# "class name" = "benign"  # or premalignant, malignant, the name of a known condition'


def default_config() -> str:
    """Return the text of the file; `load_config` reads the defaults from it."""
    config = TrainConfig()
    parts = [_comment(HEADER), *_section(config, "")]
    parts += [part for name, value in _settings(config) if is_dataclass(value) for part in _section(value, name)]
    return "\n\n".join([*parts, TAXONOMY]) + "\n"


def _section(settings: Any, name: str) -> Iterator[str]:
    """Yield the documentation of a table as comments, and its settings; name: of the table, '' for the top level."""
    _, _, explained = inspect.cleandoc(type(settings).__doc__ or "").partition("\n")
    title = [f"[{name}]"] if name else []
    lines = [_line(key, value) for key, value in _settings(settings) if not isinstance(value, Mapping)]
    yield "\n".join([*title, _comment(" ".join(explained.split())), *(line for line in lines if line)])


def _settings(settings: Any) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(settings, field.name)) for field in fields(settings))


def _line(key: str, value: Any) -> str:
    """Return a setting; as a comment where it has no default, '' for a table."""
    if is_dataclass(value):
        return ""
    if value is None:
        return f"# {tomli_w.dumps({key: EXAMPLES[key]}).strip()}"
    return tomli_w.dumps({key: list(value) if isinstance(value, tuple) else value}).strip()


def _comment(text: str) -> str:
    sentences = text.replace("; ", "\n").splitlines()
    return "\n".join(
        line for part in sentences for line in textwrap.wrap(part, 116, initial_indent="# ", subsequent_indent="#   ")
    )
