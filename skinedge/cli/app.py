"""The Typer app that the command modules register with, its usage errors and the layout of its help."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from skinedge import __version__
from skinedge.cli.levels import QuietOption, VerboseOption, apply_levels, with_levels
from skinedge.cli.parameters import read_plainly
from skinedge.core.errors import ConfigError
from skinedge.core.terminal import say
from skinedge.system.progress import note

Command = TypeVar("Command", bound=Callable[..., None])
HELP_NAMES = {"help_option_names": ["-h", "--help"]}
# The module of skinedge.cli that registers each command, in the order of the help.
MODULES = {
    "android": "android",
    "backbones": "backbones",
    "bench": "bench",
    "compare": "compare",
    "doctor": "doctor",
    "predict": "predict",
    "evaluate": "evaluate",
    "explain": "explain",
    "export": "export",
    "init": "init",
    "report": "report",
    "runs": "runs",
    "ship": "ship",
    "train": "train",
    "run": "train",
    "merge": "train",
    "verify": "verify",
    "web": "web",
    "data": "data",
}


class Unexpected(Exception):
    """Carries an error past Typer, which treats an EOFError as a request to stop."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Commands(TyperGroup):
    """The commands, imported on first use; usage errors become ConfigErrors, and an EOFError reaches `main`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, whose module is imported first; None for an unknown name."""
        if cmd_name in MODULES and cmd_name not in self.commands:
            import_module(f"skinedge.cli.{MODULES[cmd_name]}")
            self.commands = get_group(app).commands
        return super().get_command(ctx, cmd_name)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; plain values are converted without pydantic."""
        return read_plainly(super().get_params(ctx))

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the arguments; usage errors become SkinedgeError."""
        with _translate_errors():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raises: ConfigError for an empty one, which as a path would name the current folder."""
        for before, argument in zip(("skinedge", *args), args, strict=False):
            if not argument or (argument.startswith("--") and argument.endswith("=")):
                raise ConfigError(
                    f"an argument is empty: after {argument.removesuffix('=') or before}",
                    todo="If it is a variable of the shell, set it; leave the option out for its default.",
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors of its arguments become SkinedgeError."""
        with _translate_errors():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name; similar names are suggested for an unknown one."""
        args = replace_bench_compare(args)
        if args[0] not in MODULES:
            self.commands = {name: self.get_command(ctx, name) for name in MODULES}
        return super().resolve_command(ctx, args)


class CommandWithPanels(TyperCommand):
    """A command whose help lists the options of each `rich_help_panel` under a heading of their own.

    Typer does so with rich markup only, which doubles the time to the first line.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; plain values are converted without pydantic."""
        return read_plainly(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; every usage error names the command."""
        refuse_repeated_data(self.get_params(ctx), args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if getattr(error, "ctx", ctx) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under the headings of their panels."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            heading = "Arguments" if parameter.param_type_name == "argument" else "Options"
            panel = getattr(parameter, "rich_help_panel", None) or heading
            if (record := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(panel, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def refuse_repeated_data(parameters: Sequence[Any], args: Sequence[str]) -> None:
    """Raises: ConfigError for a second --data where one folder is read: Typer would take the last and drop the first.

    Other options may be repeated, as is usual: the last one counts.
    """
    names = [argument.partition("=")[0] for argument in (args[: args.index("--")] if "--" in args else args)]
    for parameter in parameters:
        if "--data" in parameter.opts and not parameter.multiple and names.count("--data") > 1:
            raise ConfigError("--data is given twice, but one folder is read", todo="Repeat the command for each.")


class Program(typer.Typer):
    """A Typer app whose commands have panels, --quiet and --verbose."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Command], Command]:
        """Return a decorator that registers a command."""
        register = super().command(name, **{"cls": CommandWithPanels, **settings})

        def decorate(command: Command) -> Command:
            register(with_levels(command))
            return command

        return decorate


def replace_bench_compare(args: list[str]) -> list[str]:
    """Return the arguments of `compare A B` for those of `bench --compare A B`, its former name."""
    if args[:1] != ["bench"] or not any(argument.partition("=")[0] == "--compare" for argument in args):
        return args
    note("'skinedge bench --compare A B' is deprecated: use 'skinedge compare A B'")
    return ["compare", *(argument.removeprefix("--compare=") for argument in args[1:] if argument != "--compare")]


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise Unexpected(error) from error
    except KeyboardInterrupt:
        note("interrupted; train, predict --out and evaluate --out go on where they stopped with --resume")
        raise
    except Exception as error:
        if not hasattr(error, "format_message"):  # one of Typer's
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # prints the help
            error.exit_code = 1  # type: ignore[attr-defined]
            raise
        raise usage_error(error) from None


def usage_error(error: Any) -> ConfigError:
    """Return Typer's usage error in the format of this project's errors."""
    context = getattr(error, "ctx", None)
    text = error.message if hasattr(error, "possibilities") else error.format_message()  # without Typer's suggestions
    message = str(text).rstrip(".") + similar_options(error, context)
    command = "skinedge" if context is None else context.command_path
    takes_data = context is not None and any("--data" in parameter.opts for parameter in context.command.params)
    hint = "Images are given with --data FOLDER. " if takes_data and "extra argument" in message else ""
    return ConfigError(message[:1].lower() + message[1:], todo=f"{hint}See: {command} --help")


def similar_options(error: Any, context: Any) -> str:
    """Return a question that names the options most similar to an unknown one; '' for other errors."""
    name = getattr(error, "option_name", "") if hasattr(error, "possibilities") and context is not None else ""
    options = [option for parameter in context.command.params for option in parameter.opts] if name else []
    similar = difflib.get_close_matches(name, options, n=2, cutoff=0.7)
    return f". Did you mean {' or '.join(map(repr, similar))}?" if similar else ""


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"skinedge {__version__}")
        raise typer.Exit


app = Program(
    name="skinedge",
    cls=Commands,
    no_args_is_help=True,
    context_settings=HELP_NAMES,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing boxes would double the time to the first line
)


@app.callback()
def skinedge(
    version: Annotated[
        bool, typer.Option("--version", "-V", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Turn labelled skin images into a verified int8 classifier for a phone or a Raspberry Pi.

    Research tool, not a medical device.
    """
    apply_levels(quiet, verbose)
