"""Hints name what pip can install: the clone, since skinedge is on no index."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
from pathlib import Path

import pytest

from skinedge.core import installation
from skinedge.core.errors import MissingDependencyError

REPOSITORY = Path(__file__).resolve().parents[3]


class Distribution:
    """An installed distribution. text: its direct_url.json, None without one."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def read_text(self, name: str) -> str | None:
        return self.text if name == "direct_url.json" else None


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package lies in site-packages, not in a clone."""
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "site-packages" / "skinedge" / "core" / "x.py"))


def test_a_clone_is_named_by_its_folder() -> None:
    command = shlex.split(installation.pip_install("plots", "--upgrade"))
    assert command == ["pip", "install", "--upgrade", f"{REPOSITORY}[plots]"]
    assert str(MissingDependencyError("peft", "train")).endswith(f"pip install {shlex.quote(f'{REPOSITORY}[train]')}")


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "skinedge"),
        (json.dumps({"url": REPOSITORY.as_uri(), "dir_info": {}}), str(REPOSITORY)),
        ('{"url": "file:///nowhere/a%20clone", "dir_info": {}}', "."),
        ('{"url": "file:///tmp/skinedge-0.1.0-py3-none-any.whl", "archive_info": {}}', "."),
    ],
    ids=["from an index", "from a clone", "the clone is gone", "from a wheel"],
)
def test_an_installed_package_names_its_origin(
    monkeypatch: pytest.MonkeyPatch, text: str | None, expected: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution(text))
    assert installation.source() == expected


def test_no_message_names_a_package_that_is_on_no_index() -> None:
    for folder in ("skinedge", "export", "bench"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            assert not re.search(r"pip install\b.*\bskinedge\[", path.read_text(encoding="utf-8")), path
