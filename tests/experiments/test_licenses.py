"""Licences of the packages that the extras install: the real ones, and made-up distributions in a temporary folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import licenses
from experiments.licenses import Package
from skinedge.core.errors import SkinedgeError

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Install a distribution with these lines of metadata, first on the search path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, *lines: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines]))
        importlib.invalidate_caches()

    return install


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\ndependencies = ["odd-one"]\n'
        '[project.optional-dependencies]\nmore = ["odd-two[part]"]\nall = ["skinedge[more]"]\n'
    )
    return path


def test_every_installed_licence_is_allowed_and_listed() -> None:
    text = licenses.document()
    for name in ("numpy", "msgspec", "onnxruntime", "torch", "litert-torch", "grad-cam", "matplotlib"):
        assert text.count(f"| {name} |") == 1, name
    assert "://" not in text and "licence allows use" in text


def test_the_document_is_up_to_date() -> None:
    """Compares names only: versions differ by platform and date of installation."""
    text = licenses.DOCUMENT.read_text()
    missing = {one.name for one in licenses.brought_by("") if f"| {one.name} |" not in text}
    assert not missing, "run: make licenses"


def test_packages_of_nested_extras_are_found(put: Put, project: Path) -> None:
    put("odd-one", "License-Expression: MIT", "Requires-Dist: odd-base", "Requires-Dist: odd-never; extra == 'never'")
    put("odd-base", "Classifier: License :: OSI Approved :: ISC License (ISCL)")
    put("odd-two", "License: BSD", "Requires-Dist: odd-part; extra == 'part'", "Requires-Dist: odd-one")
    put("odd-part", "License-Expression: GPL-3.0-only OR MIT")
    put("odd-never", "License-Expression: MIT")
    assert [one.name for one in licenses.brought_by("", project)] == ["odd-base", "odd-one"]
    licence_of = {one.name: one.licence for one in licenses.brought_by("all", project)}
    assert licence_of == {
        "odd-base": "ISC",
        "odd-one": "MIT",
        "odd-part": "GPL-3.0-only OR MIT",
        "odd-two": "BSD-3-Clause",
    }
    licenses.check(licenses.brought_by("all", project))


@pytest.mark.parametrize(
    "lines",
    [
        ("License-Expression: AGPL-3.0-only",),
        ("License-Expression: MIT AND GPL-3.0-only",),
        ("License-Expression: (MIT OR AGPL-3.0-only) AND SSPL-1.0",),
        ("Classifier: License :: Other/Proprietary License",),
        ("License: see the file", "Classifier: License :: OSI Approved"),
        (),
    ],
)
def test_a_licence_that_is_not_allowed_or_not_known_is_an_error_that_names_the_package(
    put: Put, project: Path, lines: tuple[str, ...]
) -> None:
    put("odd-one", *lines)
    with pytest.raises(SkinedgeError, match=r"odd-one 1\.0 \("):
        licenses.check(licenses.brought_by("", project))


def test_expressions() -> None:
    for licence, allowed in {
        "MIT": True,
        "Apache-2.0 WITH LLVM-exception AND MIT": True,
        "GPL-3.0-only OR (MIT AND ISC)": True,
        "MIT AND": False,
        "whatever it takes": False,
        "__import__('os')": False,
        "": False,
    }.items():
        assert Package("odd", "1", licence).allowed is allowed, licence
