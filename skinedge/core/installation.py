"""The command that adds optional packages to this installation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def pip_install(extra: str, *options: str) -> str:
    """Return the `pip install` command of one of skinedge's extras."""
    return shlex.join(["pip", "install", *options, f"{source()}[{extra}]"])


def source() -> str:
    """Return where pip finds skinedge: its clone, which is '.' if its folder is not known, or the name on an index."""
    clone = Path(__file__).resolve().parents[2]
    if _is_clone(clone):
        return str(clone)
    origin = _origin()
    if origin is None:
        return "skinedge"
    return str(origin) if _is_clone(origin) else "."


def _origin() -> Path | None:
    """Return the file or folder that pip installed skinedge from, None for an index (PEP 610, direct_url.json)."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.request import url2pathname

    try:
        text = distribution("skinedge").read_text("direct_url.json")
    except PackageNotFoundError:
        text = ""
    if text is None:
        return None
    match = re.search(r'"url"\s*:\s*"file://([^"]*)"', text)
    return Path(url2pathname(match[1])) if match else Path()


def _is_clone(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / "skinedge" / "__init__.py").is_file()
