"""`make platforms`: the table of docs/platforms.md, from recorded outputs of uv, which needs a network."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from experiments import platforms
from experiments.platforms import DOCUMENT, EXTRAS, PLATFORMS, PYTHONS, Cell, resolve, table
from skinedge.core.errors import SkinedgeError

NO_CONVERTER = """error: No solution found when resolving dependencies
  cause: Because litert-converter>=0.5.0.dev20260821,<=0.5.0 has no wheels with a matching platform tag (e.g.,
         `manylinux_2_28_aarch64`) and only the following versions of litert-converter are available:
             litert-converter<0.5.dev0
"""
NO_ONNXRUNTIME = """error: No solution found when resolving dependencies
  cause: Because onnxruntime>=1.21.0 has no wheels with a matching platform tag (e.g., `musllinux_1_2_x86_64`) and
         skinedge depends on onnxruntime>=1.21, we can conclude that your requirements are unsatisfiable.
"""
SDIST_ONLY = (
    "  cause: Because grad-cam==1.5.7 has no usable wheels and only grad-cam<=1.5.7 is available, we can conclude"
)
OFFLINE = "error: Failed to fetch: `https://index/simple/numpy/`\n  cause: dns error\n"


@pytest.fixture
def uv(tmp_path: Path) -> Path:
    """A program that prints the recorded output in `out` and `err`, and fails if there is an error."""
    script = tmp_path / "uv"
    script.write_text(
        f'#!/bin/sh\necho "$@ $MACOSX_DEPLOYMENT_TARGET" > {tmp_path}/asked\n'
        f"cat {tmp_path}/out\ncat {tmp_path}/err >&2\ntest ! -s {tmp_path}/err\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "out").write_text("numpy==2.4.0\n")
    (tmp_path / "err").write_text("")
    return script


@pytest.mark.parametrize(
    ("extra", "out", "err", "result"),
    [
        ("", "ai-edge-litert==2.3.0\nnumpy==2.4.0\n", "", "yes"),
        ("", "numpy==2.4.0\n", "", "ONNX only"),
        ("train", "torch==2.14.1\n", "", "yes"),
        ("export", "ai-edge-litert==2.3.0\nlitert-torch==0.10.0\n", "", "yes"),
        ("export", "ai-edge-litert==2.3.0\nother-litert-torch==1\n", "", "ONNX only"),
        ("export", "", NO_CONVERTER, "no: litert-converter"),
        ("", "", NO_ONNXRUNTIME, "no: onnxruntime"),
        ("all", "", SDIST_ONLY, "no: grad-cam"),
    ],
)
def test_a_cell(uv: Path, extra: str, out: str, err: str, result: str) -> None:
    (uv.parent / "out").write_text(out)
    (uv.parent / "err").write_text(err)
    assert resolve(Cell("Linux aarch64", extra, "3.12"), Path("pyproject.toml"), uv) == result


def test_uv_is_asked_for_wheels_of_the_platform_and_python(uv: Path) -> None:
    resolve(Cell("macOS, Intel", "export", "3.14"), Path("pyproject.toml"), uv)
    asked = (uv.parent / "asked").read_text()
    for words in ("--only-binary :all:", "--python-version 3.14", "--python-platform x86_64-apple-darwin"):
        assert words in asked
    assert asked.split("pyproject.toml ")[1].split() == ["--extra", "export", platforms.MACOS]


def test_a_failure_for_another_reason_is_an_error_and_no_result(uv: Path) -> None:
    (uv.parent / "err").write_text(OFFLINE)
    with pytest.raises(SkinedgeError, match="dns error"):
        resolve(Cell("Linux x86-64", "", "3.11"), Path("pyproject.toml"), uv)


def test_the_document_has_every_cell() -> None:
    """docs/platforms.md is complete, and ONNX export installs wherever training does."""
    rows = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    (_, _, *pythons), *body = rows
    assert tuple(pythons) == PYTHONS and len(body) == len(PLATFORMS) * len(EXTRAS)
    results = {
        Cell(platform, install.strip("`").removeprefix("skinedge").strip("[]"), python): result
        for platform, install, *cells in body
        for python, result in zip(pythons, cells, strict=True)
    }
    assert {cell.platform for cell in results} == set(PLATFORMS) and {cell.extra for cell in results} == set(EXTRAS)
    assert table(results) in DOCUMENT.read_text()
    for cell, result in results.items():
        assert result in (platforms.YES, platforms.ONNX_ONLY) or result.startswith("no: ")
        if cell.extra == "train" and result == platforms.YES:
            assert results[Cell(cell.platform, "export", cell.python)] in (platforms.YES, platforms.ONNX_ONLY)
