"""Tables: their width, the numbers in them, and the colours of verdicts."""

from __future__ import annotations

import os
import re

import pytest

from skinedge.cli import tables

COLUMNS = ("file", "max diff", "agreement", "bal acc", "drop", "AUC", "mel sens", "mal se/sp", "verdict")
ROWS = [
    ("model.int8.heatmap.tflite", "1.2e-01", "0.986 (0.98-0.99)", "0.658", "+0.0012", "0.941", "0.811", "0.959/0.556",
     verdict) for verdict in ("pass", "fail", "not measured")
]  # fmt: skip


def plain(text: str) -> str:
    """Return the text without the escapes of bold and colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


class Terminal:
    """Standard output that says it is a terminal of `width` columns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
        size = os.terminal_size((width, 24))
        monkeypatch.setattr("shutil.get_terminal_size", lambda *fallback: size)
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_table_fits_and_breaks_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    Terminal(monkeypatch, width)
    tables.table("Parity", COLUMNS, ROWS)
    text = plain(capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= width
    for number in ("1.2e-01", "(0.98-0.99)", "+0.0012", "0.959/0.556", "model.int8.heatmap.tflite"):
        assert text.count(number) >= len(ROWS), number


def test_long_words_are_broken_where_nothing_else_helps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Terminal(monkeypatch, 50)
    tables.table("", ("image", "score"), [("x" * 90, "0.123456")])
    text = plain(capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= 50 and "0.123456" in text


def test_verdicts_are_coloured_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.table("Parity", COLUMNS, ROWS)
    assert "\x1b[" not in capsys.readouterr().out
    Terminal(monkeypatch, 160)
    tables.table("Parity", COLUMNS, ROWS)
    text = capsys.readouterr().out
    for word, code in (("pass", 32), ("fail", 31), ("not measured", 33)):
        assert re.search(rf"\x1b\[{code}m{word}", text), word
    monkeypatch.setenv("NO_COLOR", "1")
    tables.table("Parity", COLUMNS, ROWS)
    assert not re.search(r"\x1b\[3[123]m", capsys.readouterr().out)
