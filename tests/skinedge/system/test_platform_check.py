"""A 32-bit system is refused by every command that runs a model, and doctor says so."""

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
def test_what_runs_models_is_refused(
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


def test_doctor_calls_it_a_problem(small: None) -> None:
    (finding,) = doctor.system()
    assert finding.state == "problem" and "32-bit" in finding.detail and platform_check.NEED_64 in finding.detail


def test_this_one_is_fine() -> None:
    assert platform_check.is_64_bit() and [finding.state for finding in doctor.system()] == ["ok"]


def test_a_table_shows_brackets_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    """What doctor tells to install has an extra in brackets, which rich would take for markup."""
    table("a [red] title", ("what", "detail"), [["torch", "pip install 'skinedge[train]'"]])
    out = capfd.readouterr().out
    assert "pip install 'skinedge[train]'" in out and "a [red] title" in out
