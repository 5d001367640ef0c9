"""Whether a wheel or an sdist carries the flagship model, and under which licences it is then.

SKINEDGE_WITHOUT_MODEL=1 builds one without; where `skinedge/flagship` does not exist, there is nothing to carry. The
libraries of the page of `skinedge web` go in where `make web` has fetched them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

CODE = "Apache-2.0"
MODEL = "skinedge/flagship"
BROWSER = "bench/skinedge_bench/web/page/vendor"
WITHOUT = "SKINEDGE_WITHOUT_MODEL"


def carried(root: Path) -> Path | None:
    """The model's folder if it is to be carried."""
    folder = root / MODEL
    return folder if (folder / "manifest.json").is_file() and not os.environ.get(WITHOUT) else None


def code_license(root: Path) -> str:
    """SPDX expression of all but the model: ONNX Runtime Web is under MIT, LiteRT.js under our own licence."""
    return f"{CODE} AND MIT" if (root / BROWSER).is_dir() else CODE


def checked_license(folder: Path) -> str:
    """SPDX expression of the model.

    Raises: ValueError when it states none, or its files are not the listed ones: no more, no fewer, none changed.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    listed = {entry["path"]: entry["sha256"] for stage in manifest["stages"].values() for entry in stage["files"]}
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()}
    found.pop("manifest.json")
    if wrong := sorted({name for name, _ in found.items() ^ listed.items()}):
        raise ValueError(f"{folder / wrong[0]} is not as manifest.json lists it; build without the model: {WITHOUT}=1")
    if not manifest.get("license") or not (folder / "LICENSE").is_file():
        raise ValueError(f"{folder} states no licence; build without it: {WITHOUT}=1")
    return str(manifest["license"])


class Licences(MetadataHookInterface):
    """`license` and `license-files`, which depend on what is carried."""

    def update(self, metadata: dict[str, Any]) -> None:
        folder = carried(Path(self.root))
        code = code_license(Path(self.root))
        metadata["license"] = code if folder is None else f"{code} AND {checked_license(folder)}"
        metadata["license-files"] = ["LICENSE"] if folder is None else ["LICENSE", f"{MODEL}/LICENSE"]


class Flagship(BuildHookInterface[Any]):
    """Adds the model, which pyproject.toml leaves out, to what is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = carried(Path(self.root))
        if folder is not None and version != "editable":  # an editable install finds it where it is
            build_data["force_include"][str(folder)] = MODEL
