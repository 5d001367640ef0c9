"""Errors survive pickling, and a command's process ends with the right exit code, output and crash file."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from examples import manifest

from skinedge.core import errors
from skinedge.run import crash_report
from skinedge.run.run_directory import Bundle

KINDS = [
    errors.SkinedgeError("what", where="here", todo="Do that."),
    errors.GateError("failed:", lines=["one", "two"]),
    errors.MissingDependencyError("litert_torch", "export"),
    errors.UnavailableError("not here", where="gpu"),
]


@pytest.mark.parametrize("error", KINDS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: errors.SkinedgeError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error)
    assert (copy.what, copy.where, copy.todo, copy.args) == (error.what, error.where, error.todo, error.args)
    assert copy.lines == error.lines


def test_unexpected_error_keeps_type_and_traceback_when_pickled() -> None:
    try:
        raise ZeroDivisionError("first\nsecond")
    except ZeroDivisionError as error:
        copy = pickle.loads(pickle.dumps(errors.unexpected(error, "model.int8.onnx")))
    assert str(copy).splitlines()[0] == "model.int8.onnx: ZeroDivisionError: first"
    assert "test_errors.py" in copy.__notes__[0]
    assert errors.unexpected(copy) is copy


def process(body: str, **streams: int) -> subprocess.Popen[str]:
    """Start a process whose command executes `body`."""
    code = f"""
import sys, skinedge.cli
from skinedge.core.errors import SkinedgeError
def app():
    {body}
skinedge.cli.app = app
skinedge.cli.process()
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


@pytest.mark.parametrize(
    ("body", "code", "out", "err"),
    [
        ("print('said')", 0, "said\n", ""),
        ("print('said'); sys.exit(3)", 3, "said\n", ""),
        ("raise SkinedgeError('wrong', todo='Mend it.')", 1, "", "error: wrong\nMend it.\n"),
        ("sys.exit(None)", 0, "", ""),
        ("import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()", 0, "", ""),
    ],
)
def test_command_process_exits_immediately_with_complete_output(body: str, code: int, out: str, err: str) -> None:
    done = process(body)
    assert done.communicate(timeout=30) == (out, err) and done.returncode == code


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("raise ZeroDivisionError('a bug\\nof two lines')", "unexpected ZeroDivisionError: a bug"),
        ("raise MemoryError", "unexpected MemoryError"),
        ("f = lambda: f(); f()", "unexpected RecursionError: maximum recursion depth exceeded"),
        ("bytearray(2**62)", "unexpected MemoryError"),
        ("print(chr(0xd800).encode())", "unexpected UnicodeEncodeError"),
    ],
)
def test_unexpected_error_prints_two_lines_and_writes_a_crash_file(
    body: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = process(body)
    out, err = done.communicate(timeout=30)
    (path,) = (tmp_path / "skinedge").iterdir()
    first, second = err.splitlines()
    assert done.returncode == 1 and out == "" and first.startswith(f"error: {line}") and str(path) in second
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in text and "skinedge 0" in text and "numpy" in text and "$ " in text and "Traceback" not in err


def test_traceback_is_shown_with_debug_or_if_the_crash_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("SKINEDGE_DEBUG", "1")
    assert "Traceback" in process("1 / 0").communicate(timeout=30)[1]
    monkeypatch.delenv("SKINEDGE_DEBUG")
    (tmp_path / "file").write_text("")
    for name in ("XDG_STATE_HOME", "TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    assert "could not be written" in crash_report.report(ZeroDivisionError("a bug"))


def test_crash_report_lists_finished_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "run").mkdir()
    bundle = Bundle.create(tmp_path / "run", manifest())
    with bundle.stage("one", "test", {}) as stage:
        stage.path("a.txt").write_text("a")
    with pytest.raises(ZeroDivisionError) as error, bundle.stage("two", "test", {}):
        _ = 1 / 0
    assert f"Finished stages of {tmp_path / 'run'} are kept: one." in crash_report.report(error.value)


def test_eof_error_is_not_treated_as_an_abort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer treats an EOFError as Ctrl-D and prints "Aborted!"."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code = """
import sys, skinedge.cli, skinedge.data.readers
def read(*arguments): raise EOFError("No data left in file")
skinedge.data.readers.read = read
sys.argv = ["skinedge", "data", "info", "."]
skinedge.cli.process()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith("error: unexpected EOFError: No data left in file")
    assert "Aborted" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_failed_output_exits_with_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = process("print('said')", stdout=full.fileno())
        done.communicate(timeout=30)
    assert done.returncode == 1


def test_a_crash_of_a_user_without_a_home_in_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", gone)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    assert str(tmp_path / "skinedge-crash-") in crash_report.report(ValueError("odd"))
    (written,) = tmp_path.glob("skinedge-crash-*")
    assert "a folder that no longer exists" in written.read_text()
