"""The generated files of pinned packages: `make hashes`."""

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
    """Return package -> version; check that each line is a pinned version with sha256 hashes and nothing else."""
    versions = {}
    for line in path.read_text().replace("\\\n", "").splitlines():
        pin, *hashes = line.split("--hash=")
        requirement = Requirement(pin.strip())
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and requirement.url is None, line
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest.strip()) for digest in hashes), line
        versions[canonicalize_name(requirement.name)] = specifier.version
    return versions


@pytest.mark.parametrize("path", [ON_HOST, ONNX2TF, MEDIAPIPE, SBOM])
def test_every_package_is_pinned_with_its_hashes_and_no_source(path: Path) -> None:
    assert pinned(path) and "://" not in path.read_text()


def test_pins_match_constraints_and_pyproject() -> None:
    tested = dict(
        line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
    )
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    base = pinned(ON_HOST)
    assert {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} <= set(base)
    for packages in (base, pinned(MEDIAPIPE)):
        assert {name: version for name, version in packages.items() if tested.get(name, version) != version} == {}
    pins = ONNX2TF.with_name("pins.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in pins if not line.startswith("#")]
    assert pinned(ONNX2TF) == {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in requirements}
