"""--quiet, --verbose, coloured errors, and shell completion."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skinedge import cli
from skinedge.core.errors import unexpected
from skinedge.run import crash_report
from skinedge.system import progress


@pytest.fixture(autouse=True)
def normal_level() -> Iterator[None]:
    yield
    progress.set_level("normal")


def outputs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, str]:
    monkeypatch.setattr("sys.argv", ["skinedge", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_quiet_leaves_results_and_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, synthetic_images: Path
) -> None:
    check = ("data", "check", str(synthetic_images))
    out, err = outputs(capsys, monkeypatch, *check)
    assert "140 images" in err
    for arguments in ((*check, "--quiet"), ("-q", *check)):
        assert outputs(capsys, monkeypatch, *arguments) == (out, "")
    assert outputs(capsys, monkeypatch, "-q", "data", "check", "missing")[1].startswith("error: missing: no such")
    assert outputs(capsys, monkeypatch, *check) == (out, err)  # a level ends with its command


def test_verbose_adds_times_and_tracebacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, synthetic_images: Path
) -> None:
    err = outputs(capsys, monkeypatch, "data", "check", str(synthetic_images), "--verbose")[1]
    assert " s] " in err.partition("140 images")[0]
    error = unexpected(ValueError("x"))
    assert crash_report.notes(error)
    progress.set_level("normal")
    monkeypatch.delenv(crash_report.DEBUG, raising=False)
    assert not crash_report.notes(error)


def test_both_levels_are_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "contradict" in outputs(capsys, monkeypatch, "doctor", "--quiet", "--verbose")[1]


def test_errors_that_end_nothing_are_printed_by_quiet_commands(capsys: pytest.CaptureFixture[str]) -> None:
    progress.set_level("quiet")
    progress.note("a note")
    progress.note_error("3 images")
    assert capsys.readouterr().err == "error: 3 images\n"


def test_error_is_red_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert outputs(capsys, monkeypatch, "data", "check", "missing")[1].startswith("\x1b[31merror:\x1b[0m missing")
    monkeypatch.setenv("NO_COLOR", "1")
    assert outputs(capsys, monkeypatch, "data", "check", "missing")[1].startswith("error: missing")


def test_the_shell_completes_commands() -> None:
    code = "import sys; sys.argv = ['skinedge']; from skinedge.__main__ import main; main()"
    request = {"_SKINEDGE_COMPLETE": "complete_bash", "COMP_WORDS": "skinedge ver", "COMP_CWORD": "1"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **request}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["verify"] and done.stderr == ""
