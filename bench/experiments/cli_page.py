"""Write the commands into docs/cli.md and the settings into docs/train.md, from the code: `make cli-page`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from experiments.generated import replaced
from skinedge.cli import app
from skinedge.core.errors import SkinedgeError
from skinedge.core.files import write_atomic
from skinedge.training.config_file import default_config

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, SETTINGS_PAGE = DOCS / "cli.md", DOCS / "train.md"
START, END = "<!-- commands: `make cli-page` writes this from skinedge/cli -->", "<!-- end of commands -->"
SETTINGS_START = "<!-- settings: `make cli-page` writes this from skinedge/run/config.py -->"
SETTINGS_END = "<!-- end of settings -->"
HELP = "--help"  # every command has it


def main() -> int:
    description = (__doc__ or "").partition("\n")[0]
    argparse.ArgumentParser(prog="python -m experiments.cli_page", description=description).parse_args()
    try:
        write_atomic(PAGE, updated(PAGE.read_text(encoding="utf-8")))
        write_atomic(SETTINGS_PAGE, updated_settings(SETTINGS_PAGE.read_text(encoding="utf-8")))
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def updated(text: str) -> str:
    """Return the page with the present commands. Raises: SkinedgeError without its markers."""
    return replaced(text, START, END, "\n\n".join(sections()))


def updated_settings(text: str) -> str:
    """Return the page with every setting and its default. Raises: as `updated`."""
    return replaced(text, SETTINGS_START, SETTINGS_END, f"```toml\n{default_config()}```")


def sections() -> Iterator[str]:
    """Yield the Markdown section of each command."""
    root = get_command(app)
    for context in contexts(root, root.make_context("skinedge", [], resilient_parsing=True)):
        yield "\n\n".join([f"### {context.command_path}", *parts(context)])


def contexts(command: Any, context: Any) -> Iterator[Any]:
    """Yield the context of a command and of its subcommands, in the order of the help."""
    yield context
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        inner = command.get_command(context, name)
        yield from contexts(inner, inner.make_context(name, [], parent=context, resilient_parsing=True))


def parts(context: Any) -> Iterator[str]:
    """Yield usage, description and tables of a command's arguments and options."""
    yield f"```text\n{context.command.get_usage(context).removeprefix('Usage: ')}\n```"
    yield (context.command.help or "").strip()
    rows: dict[str, list[str]] = {"Argument": [], "Option": []}
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and HELP not in parameter.opts:
            kind = "Argument" if parameter.param_type_name == "argument" else "Option"
            heading = getattr(parameter, "rich_help_panel", None) or kind
            rows.setdefault(heading, []).append(f"| `{record[0]}` | {cell(record[1])} |")
    for heading, lines in rows.items():
        if lines:
            yield "\n".join([f"| {heading} | Meaning |", "|---|---|", *lines])


def cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    sys.exit(main())
