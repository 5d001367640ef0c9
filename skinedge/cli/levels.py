"""The options --quiet and --verbose, which every command has."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any

import typer

from skinedge.core.errors import ConfigError
from skinedge.system.progress import set_level

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and results only.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print all tables, elapsed times and tracebacks too.")
]


def apply_levels(quiet: bool, verbose: bool) -> None:
    """Set how much the command prints. Raises: ConfigError for both."""
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose contradict each other", todo="Give one of them.")
    if quiet or verbose:
        set_level("quiet" if quiet else "verbose")


def with_levels(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the two options, which take effect before it runs."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own]
    for name, option in (("quiet", QuietOption), ("verbose", VerboseOption)):
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=option))

    @functools.wraps(command)
    def call(*, quiet: bool, verbose: bool, **values: Any) -> None:
        apply_levels(quiet, verbose)
        command(**values)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
