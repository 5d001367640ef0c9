"""The help of every command, groups of options, and the version."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

import skinedge
from skinedge.cli import app
from skinedge.cli.app import MODULES, replace_bench_compare
from skinedge.cli.option_groups import expand_groups

COMMANDS = ("android", "backbones", "bench", "compare", "doctor", "evaluate", "explain", "export", "init", "merge",
            "predict", "report", "run", "runs", "ship", "train", "verify", "web", "data", "data synth", "data check",
            "data info", "data clean")  # fmt: skip


def help_of(command: str) -> str:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0 and result.stderr == ""
    return result.stdout


def test_the_list_of_commands_is_complete() -> None:
    root = get_command(app)
    context = root.make_context("skinedge", [], resilient_parsing=True)
    assert set(root.list_commands(context)) == {command for command in COMMANDS if " " not in command}
    assert set(root.get_command(context, "data").commands) == {name[5:] for name in COMMANDS if name[:5] == "data "}
    registered = {command.name or getattr(command.callback, "__name__", None) for command in app.registered_commands}
    for name, module in MODULES.items():
        assert root.get_command(context, name).name == name, module
    assert registered <= set(MODULES) and root.get_command(context, "predic") is None


def test_a_similar_command_is_suggested() -> None:
    code = "import sys; from skinedge.cli import main; sys.argv = ['skinedge', 'predic', 'x.jpg']; main()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1 and "no such command 'predic'. Did you mean 'predict'?" in done.stderr


def test_the_shell_completes_commands_and_options() -> None:
    for words, count, expected in (("skinedge pr", 1, "predict"), ("skinedge data ch", 2, "check"),
                                   ("skinedge predict --fi", 2, "--file")):  # fmt: skip
        environment = {"_SKINEDGE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        result = CliRunner().invoke(app, [], prog_name="skinedge", env=environment)
        assert result.stdout.split() == [expected]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(command: str) -> None:
    assert all(len(line) <= 80 for line in help_of(command).splitlines())


def test_options_stand_under_the_heading_of_their_panel() -> None:
    text = help_of("bench")
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Arguments:", "Options:", "Another device, over SSH:", "An Android phone:"]
    assert text.index("--threads") < text.index("over SSH:") < text.index("--host") < text.index("phone:")
    assert text.index("phone:") < text.index("--adb") and "--compare" not in text


def test_train_and_run_share_their_options() -> None:
    train, run = (help_of(command).partition("Options:")[2].splitlines() for command in ("train", "run"))
    assert train == run and any("--image-size PX" in line for line in train)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_takes_h_and_the_levels(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "-h"], env={"COLUMNS": "80"})
    assert result.exit_code == 0 and result.stdout == help_of(command)
    assert command == "data" or ("-q, --quiet" in result.stdout and "-v, --verbose" in result.stdout)


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version(option: str) -> None:
    result = CliRunner().invoke(app, [option])
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"skinedge {skinedge.__version__}\n", "")


def test_a_group_is_one_parameter_of_the_command() -> None:
    calls: list[tuple[Any, int, bool]] = []

    def command(where: Where, count: Annotated[int, typer.Option()] = 3, json: bool = False) -> None:
        calls.append((where, count, json))

    program = typer.Typer()
    program.command()(expand_groups(command))
    assert CliRunner().invoke(program, ["--host", "a", "--count", "4"]).exit_code == 0
    assert CliRunner().invoke(program, ["--host", "b", "--port", "7", "--json"]).exit_code == 0
    assert calls == [(Where("a"), 4, False), (Where("b", 7), 3, True)]
    assert CliRunner().invoke(program, []).exit_code != 0  # --host has no default


@dataclass(frozen=True)
class Where:
    host: Annotated[str, typer.Option()]
    port: Annotated[int | None, typer.Option()] = None


def test_other_commands_arguments_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["bench"], ["bench", "RUN", "--comparee"], ["predict", "--compare", "x"]):
        assert replace_bench_compare(args) == args
    assert capsys.readouterr().err == ""
