"""Commands that run a model refuse a 32-bit system, and doctor reports it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from skinedge.cli import main
from skinedge.cli.common import table
from skinedge.publish import doctor
from skinedge.system import platform_check


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)


@pytest.mark.parametrize("command", ["predict", "verify", "bench", "explain", "evaluate"])
def test_commands_that_run_models_are_refused_on_32_bit(
    small: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
) -> None:
    file, image = tmp_path / "model.onnx", tmp_path / "image.png"
    file.write_bytes(b"whatever")
    image.write_bytes(b"whatever")
    arguments = [str(image), "--run", str(file)] if command in ("predict", "explain") else [str(file)]
    monkeypatch.setattr(sys, "argv", ["skinedge", command, *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    err = capfd.readouterr().err
    assert end.value.code == 1 and platform_check.NEED_64 in err and "32-bit Python" in err and "Raspberry Pi OS" in err


def test_doctor_reports_a_32_bit_system_as_a_problem(small: None) -> None:
    (finding,) = doctor.system()
    assert finding.state == "problem" and "32-bit" in finding.detail and platform_check.NEED_64 in finding.detail


def test_this_system_is_64_bit() -> None:
    assert platform_check.is_64_bit() and [finding.state for finding in doctor.system()] == ["ok"]


def test_table_prints_brackets_literally(capfd: pytest.CaptureFixture[str]) -> None:
    """doctor's install commands contain an extra in brackets, which rich would parse as markup."""
    table("a [red] title", ("what", "detail"), [["torch", "pip install 'skinedge[train]'"]])
    out = capfd.readouterr().out
    assert "pip install 'skinedge[train]'" in out and "a [red] title" in out
