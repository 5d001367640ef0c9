"""Read plain options without pydantic, which Typer imports to convert any value (a fifth of a short command's time)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

NUMBERS = {int: "a whole number", float: "a number"}


def not_a_number(value: Any, kind: type, param: Any) -> str:
    """Say what a numeric option must be, with an example: its default, or the least value."""
    info = param.type_descriptor.parameter_info
    least, most = getattr(info, "min", None), getattr(info, "max", None)
    limits = [f"{word} {limit}" for word, limit in (("at least", least), ("at most", most)) if limit is not None]
    stated = re.search(r"\[default: ([\d.]+)", getattr(param, "help", None) or "")
    example = stated[1] if stated else next((one for one in (param.default, least) if one is not None), 1)
    expected = " of ".join([NUMBERS[kind], *filter(None, [" and ".join(limits)])])
    return f"'{value}' is not {expected}; for example: {param.opts[0]} {example}"


class PlainParameter:
    """Converts texts and paths itself, and leaves every other value to Typer."""

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter
        self._annotation = parameter.type_descriptor.annotation

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value of an option or argument; None and () stand for one that is not given."""
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        kind = self._annotation
        if many and kind in (list[str], list[Path]) and isinstance(value, list | tuple):
            return [kind.__args__[0](item) for item in value]
        if not many and kind in (str, Path) and isinstance(value, str | Path):
            return kind(value)
        if not many and type(value) is kind and value == param.default:
            return value
        self._parameter._runtime_param = None  # the next call builds Typer's own
        try:
            return self._parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)
        except Exception as error:
            if kind in NUMBERS and hasattr(error, "format_message") and not many:
                error.message = not_a_number(value, kind, param)  # type: ignore[attr-defined]
            raise


def read_plainly(parameters: list[Any]) -> list[Any]:
    """Let these parameters convert plain values themselves, where Typer has this mechanism and nothing to check."""
    for parameter in parameters:
        info = getattr(getattr(parameter, "type_descriptor", None), "parameter_info", None)
        checks = ("parser", "click_type", "exists", "resolve_path", "readable_only", "writable", "allow_dash")
        if getattr(parameter, "_runtime_param", 0) is None and not any(getattr(info, name, None) for name in checks):
            parameter._runtime_param = PlainParameter(parameter)
    return parameters
