"""Read plain options without pydantic, which Typer imports to convert any value (a fifth of a short command's time)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


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
        return self._parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)


def read_plainly(parameters: list[Any]) -> list[Any]:
    """Let these parameters convert plain values themselves, where Typer has this mechanism and nothing to check."""
    for parameter in parameters:
        info = getattr(getattr(parameter, "type_descriptor", None), "parameter_info", None)
        checks = ("parser", "click_type", "exists", "resolve_path", "readable_only", "writable", "allow_dash")
        if getattr(parameter, "_runtime_param", 0) is None and not any(getattr(info, name, None) for name in checks):
            parameter._runtime_param = PlainParameter(parameter)
    return parameters
