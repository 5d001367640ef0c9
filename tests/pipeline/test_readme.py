"""The commands and Python sessions of README and docs/ work.

README's commands run first, in an empty folder, where they make `sample-images` and `runs/first`; each page's commands
follow in the same folder. A block of `sh` has commands, and a block of `python` is a session for doctest. A block after
the comment `<!-- not run: REASON -->` is not executed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from skinedge.publish.bundled_model import VARIABLE

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if path.name != "log.md")  # the log's commands are history
MARK = "commands: run by tests/pipeline/test_readme.py"
NOT_RUN = "not run: "
FENCE = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = {"html", "json", "text", "toml"}  # languages that are never executed


@dataclass(frozen=True)
class Block:
    """A fenced block. line: the number of its first line; mark: the text of the comment before it."""

    line: int
    mark: str
    language: str
    body: str

    @property
    def is_run(self) -> bool:
        return not self.mark.startswith(NOT_RUN)

    @property
    def commands(self) -> list[str]:
        if not self.is_run or (self.language != "sh" and self.mark != MARK):
            return []
        lines = self.body.replace("\\\n", " ").splitlines()
        return [line for line in lines if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, match.start(3)), match[1] or "", match[2], match[3]) for match in FENCE.finditer(text)
    ]


def execute(page: Path, folder: Path) -> dict[str, str]:
    """Run a page's commands; return name of the command -> its output."""
    outputs = {}
    for command in (command for block in blocks(page) for command in block.commands):
        done = subprocess.run(command, shell=True, cwd=folder, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, f"{page.name}: {command}\n{done.stdout}\n{done.stderr}"
        outputs[command.split()[1]] = done.stdout
    return outputs


def environment() -> dict[str, str]:
    """Return the environment of a user: the commands of this Python, and the shipped model."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**{name: value for name, value in os.environ.items() if name != VARIABLE}, "PATH": path}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Run README's commands in an empty folder; return it, and their outputs."""
    folder = tmp_path_factory.mktemp("workplace")
    return folder, execute(REPOSITORY / "README.md", folder)


@pytest.fixture(scope="module")
def untouched(workplace: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder before any page's commands: request it before they run."""
    return Path(shutil.copytree(workplace[0], tmp_path_factory.mktemp("untouched") / "workplace"))


def test_the_commands_of_readme_work(workplace: tuple[Path, dict[str, str]], untouched: Path) -> None:
    folder, outputs = workplace
    assert len(outputs) >= 4
    files = {"model.fp32.onnx", "model.fp32.tflite", "model.int8.onnx", "model.int8.tflite"}
    cards = {f"{name}.skinedge.json" for name in files}
    assert {p.name for p in (folder / "runs" / "first").glob("model.*")} == {*files, *cards, "model.safetensors"}
    assert all(part in outputs["run"] for part in ("Flagged as malignant", "melanoma", "One image takes", "Next:"))
    assert not any("\\n" in output for output in outputs.values()), "an escaped line break"
    assert "balanced accuracy" in outputs["evaluate"].lower()
    assert "mel" in outputs["predict"]


@pytest.mark.parametrize("name", [name for name in PAGES if any(block.commands for block in blocks(DOCS / name))])
def test_the_commands_of_a_page_work(name: str, workplace: tuple[Path, dict[str, str]]) -> None:
    execute(DOCS / name, workplace[0])


@pytest.mark.parametrize(
    "name", [name for name in PAGES if any(block.language == "python" for block in blocks(DOCS / name))]
)
def test_the_python_sessions_of_a_page_work(name: str, untouched: Path, tmp_path: Path) -> None:
    sessions = [block for block in blocks(DOCS / name) if block.language == "python" and block.is_run]
    assert all(">>> " in block.body for block in sessions)
    text = ""
    for block in sessions:  # at their lines in the page
        text += "\n" * (block.line - text.count("\n")) + block.body
    script = tmp_path / f"{name}.txt"
    script.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "doctest", "-o", "ELLIPSIS", "-o", "NORMALIZE_WHITESPACE", str(script)]
    done = subprocess.run(command, cwd=untouched, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_is_executed_or_says_why_not(name: str) -> None:
    fences = re.findall(r"^\s*```", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(DOCS / name)), "a fence is indented, nested or not closed"
    for block in blocks(DOCS / name):
        assert block.language in {*SHOWN, "sh", "python"}, f"line {block.line}: name the language of the block"
        assert block.is_run or block.mark.removeprefix(NOT_RUN).strip(), f"line {block.line}: give the reason"
        assert block.language in SHOWN or not block.is_run or block.commands or ">>> " in block.body
