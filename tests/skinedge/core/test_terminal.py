"""Control characters in file names and contents never reach the terminal; unencodable text is escaped."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinedge.cli.common import table
from skinedge.core.errors import SkinedgeError
from skinedge.core.terminal import escape_unprintable, say, visible, visible_lines
from skinedge.run.model_card import table as markdown_table
from skinedge.system.progress import note

HOSTILE = "a\x1b]0;owned\x07\x9b2J\r\nerror: all is well\u202e\u2028\udcff"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ANY = st.text() | st.text(alphabet=st.characters(max_codepoint=0x9F)) | st.just(HOSTILE)


@given(ANY)
def test_visible_gives_one_line_and_keeps_plain_text(text: str) -> None:
    shown = visible(text)
    assert not CONTROL.search(shown) and "\n" not in shown
    assert shown.encode() == shown.encode("utf-8") and (shown == text) == (
        not CONTROL.search(text) and "\n" not in text
    )
    assert visible_lines(text).count("\n") == text.count("\n") and not CONTROL.search(visible_lines(text))


@given(ANY)
def test_all_printing_functions_escape_control_characters(text: str) -> None:
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        say(text)
        note(text)
        stdout, stderr = sys.stdout.getvalue(), sys.stderr.getvalue()
        sys.stdout = io.StringIO()
        table(text, ("name", text), [(text, text)])
        table_text = sys.stdout.getvalue()
    finally:
        sys.stdout, sys.stderr = streams
    assert stdout == stderr == visible(text) + "\n"
    assert not CONTROL.search(table_text)
    assert markdown_table((text,), [[text]]).count("\n") == 2 and not CONTROL.search(markdown_table((text,), [[text]]))


def test_unencodable_characters_are_printed_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    escape_unprintable()
    say("Läsion \U0001f600 \udcff")
    assert raw.getvalue() == b"L\\xe4sion \\U0001f600 \\udcff\n"


def skinedge(*arguments: str | bytes, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, "-m", "skinedge", *arguments], capture_output=True, env=environment)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_commands_escape_unprintable_file_names(tmp_path: Path, encoding: str) -> None:
    name = os.fsencode(tmp_path) + "/Läs\x1b[2J\n".encode() + b"\xff"
    for arguments in (
        ("data", "info", name),
        ("report", name, name),
        ("data", "check", b"--\x1b[2J"),
    ):
        done = skinedge(*arguments, encoding=encoding)
        assert done.returncode in (1, 2) and b"Traceback" not in done.stderr and b"\x1b" not in done.stderr
        assert b"fault of skinedge" not in done.stderr and b"bug in skinedge" not in done.stderr


def test_error_text_is_one_line_and_the_fix() -> None:
    error = SkinedgeError("wrong\nerror", where="a\x1b\nb", todo="Mend it:\n[taxonomy]")
    assert str(error) == "a\\x1b\\nb: wrong\\nerror\nMend it:\n[taxonomy]"
