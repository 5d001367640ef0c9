"""Errors of the command line's own: unknown options and values that are no numbers."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from skinedge.cli import app
from skinedge.core.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --epoch 3", "no such option: --epoch. Did you mean '--epochs'?"),
        ("data check x --agains y", "no such option: --agains. Did you mean '--against'?"),
        ("--verbos", "no such option: --verbos. Did you mean '--verbose' or '--version'?"),
        ("predict x --qqq", "no such option: --qqq"),
        ("train --epochs two", "'--epochs': 'two' is not a whole number; for example: --epochs 10"),
        ("train --epochs 2.5", "'--epochs': '2.5' is not a whole number; for example: --epochs 10"),
        ("predict x --top 0", "'--top': '0' is not a whole number of at least 1; for example: --top 3"),
        ("data synth x --seed -1", "'--seed': '-1' is not a whole number of at least 0; for example: --seed 0"),
        ("verify --images 3", "'--images': '3' is not a whole number of at least 8; for example: --images 64"),
        ("bench --threads", "option '--threads' requires an argument"),
    ],
)
def test_wrong_usage(arguments: str, message: str) -> None:
    result = CliRunner().invoke(app, arguments.split(), prog_name="skinedge")
    assert isinstance(result.exception, ConfigError) and result.stdout == ""
    assert result.exception.what.endswith(message)
    command = " ".join(word for word in arguments.split()[:2] if word in ("train", "data", "check", "predict", "synth",
                                                                          "verify", "bench"))  # fmt: skip
    assert result.exception.todo == f"See: {f'skinedge {command}'.strip()} --help"


@pytest.mark.parametrize(
    "arguments", ["evaluate --data a --data b", "verify --data=a --data b", "merge --data . --data ."]
)
def test_a_second_folder_is_not_dropped(arguments: str) -> None:
    result = CliRunner().invoke(app, arguments.split(), prog_name="skinedge")
    assert isinstance(result.exception, ConfigError)
    assert result.exception.what == "--data is given twice, but one folder is read"


def test_other_options_and_what_follows_two_dashes_may_be_repeated() -> None:
    for arguments in ("predict x --json --json", "train --data a --data b", "predict -- --data --data"):
        result = CliRunner().invoke(app, arguments.split(), prog_name="skinedge")
        assert "twice" not in str(result.exception)
