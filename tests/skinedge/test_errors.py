"""Errors cross processes whole, and a command's process ends with what `main` said."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from skinedge import errors

KINDS = [
    errors.SkinedgeError("what", where="here", todo="Do that."),
    errors.GateError("failed"),
    errors.MissingDependencyError("litert_torch", "export"),
    errors.UnavailableError("not here", where="gpu"),
]


@pytest.mark.parametrize("error", KINDS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(error: errors.SkinedgeError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error) and str(found) == str(error)
    assert (found.what, found.where, found.todo, found.args) == (error.what, error.where, error.todo, error.args)


def process(body: str, **streams: int) -> subprocess.Popen[str]:
    """A process whose command does `body`."""
    code = f"""
import sys, skinedge.cli
from skinedge.errors import SkinedgeError
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
def test_a_commands_process_ends_at_once_with_all_that_was_said(body: str, code: int, out: str, err: str) -> None:
    done = process(body)
    assert done.communicate(timeout=30) == (out, err) and done.returncode == code


def test_a_bug_keeps_its_traceback() -> None:
    done = process("raise ZeroDivisionError('a bug')")
    assert "ZeroDivisionError: a bug" in done.communicate(timeout=30)[1] and done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_could_not_be_printed_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = process("print('said')", stdout=full.fileno())
        done.communicate(timeout=30)
    assert done.returncode == 1
