"""The generated files of pinned packages with hashes: `make hashes`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ON_HOST = REPOSITORY / "bench" / "skinedge_bench" / "devices" / "on_host" / "requirements.txt"
ONNX2TF = REPOSITORY / "export" / "skinedge_export" / "formats" / "onnx2tf" / "hashes.txt"
MEDIAPIPE = REPOSITORY / "bench" / "experiments" / "mediapipe.txt"
SBOM = REPOSITORY / "bench" / "experiments" / "sbom.txt"


def pinned(path: Path) -> dict[str, str]:
    """Return package -> version of a file; each line must be a pinned version with at least one sha256."""
    versions = {}
    for line in path.read_text().replace("\\\n", "").splitlines():
        text, *hashes = line.split("--hash=")
        requirement = Requirement(text.strip())
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and requirement.url is None, line
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", text.strip()) for text in hashes), line
        versions[canonicalize_name(requirement.name)] = specifier.version
    return versions


@pytest.mark.parametrize("path", [ON_HOST, ONNX2TF, MEDIAPIPE, SBOM])
def test_every_package_is_pinned_with_hashes_and_without_a_url(path: Path) -> None:
    assert pinned(path) and "://" not in path.read_text()


def test_the_pins_match_the_constraints() -> None:
    constraints = dict(
        line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
    )
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    base = pinned(ON_HOST)
    assert {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} <= set(base)
    for packages in (base, pinned(MEDIAPIPE)):
        assert {name: version for name, version in packages.items() if constraints.get(name, version) != version} == {}
    lines = ONNX2TF.with_name("pins.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert pinned(ONNX2TF) == {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins}
