"""The shipped model to work on, and the modules of android-demo/tools, which are in no package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skinedge.publish import bundled_model
from skinedge.run.manifest import MANIFEST
from skinedge.run.run_directory import Bundle

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "android-demo"
TOOLS = DEMO / "tools"


@pytest.fixture(scope="session", autouse=True)
def tools() -> Iterator[Path]:
    """android-demo/tools, importable by the tests of this folder, and forgotten afterwards."""
    sys.path.insert(0, str(TOOLS))
    yield TOOLS
    sys.path.remove(str(TOOLS))
    for path in TOOLS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def flagship(tmp_path: Path) -> Bundle:
    """A copy of the shipped model; the test is skipped, visibly, where none is shipped."""
    if not (bundled_model.FOLDER / MANIFEST).is_file():
        pytest.skip("no model ships with this checkout")
    bundled_model.copy_to(Bundle.open(bundled_model.FOLDER), tmp_path / "flagship")
    return Bundle.open(tmp_path / "flagship")
