"""The one exception a user ever sees, and the few kinds of it that code tells apart."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from skinedge.core.terminal import visible, visible_lines

REPORT = "This is a fault of skinedge or of a library; SKINEDGE_DEBUG=1 shows the traceback."
MEMORY = "Close other programs, or do less at a time: one --format, fewer --jobs."


class SkinedgeError(Exception):
    """Something the user can act on: what is wrong, where, and what to do; lines: each a detail of it.

    The command line prints it without a traceback and exits with 1.
    """

    def __init__(
        self, what: str, *, where: str | None = None, todo: str | None = None, lines: Sequence[str] = ()
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.todo = todo
        self.lines = tuple(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        """Kinds that are made from other arguments come back from another process too, with their notes."""
        notes = getattr(self, "__notes__", None)
        parts = (type(self), self.what, self.where, self.todo, self.lines)
        return _restored, parts, {"__notes__": notes} if notes else None

    def __str__(self) -> str:
        """One line that says what is wrong and where, those of its details, then what to do; names of files in it
        cannot add lines.
        """
        parts = [visible(self.what if self.where is None else f"{self.where}: {self.what}")]
        parts += map(visible, self.lines)
        if self.todo:
            parts.append(visible_lines(self.todo))
        return "\n".join(parts)


def _restored(
    kind: type[SkinedgeError], what: str, where: str | None, todo: str | None, lines: Sequence[str]
) -> SkinedgeError:
    error = kind.__new__(kind)
    SkinedgeError.__init__(error, what, where=where, todo=todo, lines=lines)
    return error


def unexpected(error: Exception, where: str | None = None) -> SkinedgeError:
    """Return an exception of any kind as a SkinedgeError that names its kind and message; a SkinedgeError as it is.

    The traceback is kept as a note (PEP 678), also on the way from another process; SKINEDGE_DEBUG=1 shows it.
    """
    if isinstance(error, SkinedgeError):
        return error
    message = next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), "no message")
    todo = MEMORY if isinstance(error, MemoryError) else REPORT
    return traced(SkinedgeError(f"{type(error).__name__}: {message}", where=where, todo=todo), error)


def traced(wrapped: SkinedgeError, error: Exception) -> SkinedgeError:
    """Return `wrapped` with the traceback of the error that it stands for as a note."""
    wrapped.add_note("".join(traceback.format_exception(error)))
    return wrapped


class DataError(SkinedgeError):
    """Images, labels or splits that cannot be used as they are."""


class BundleError(SkinedgeError):
    """A run directory that is missing, incomplete, damaged or not ours."""


class ConfigError(SkinedgeError):
    """An unknown key, name, format or device, or a value out of range."""


class GateError(SkinedgeError):
    """A model file that failed one of its gates."""


class MissingDependencyError(SkinedgeError):
    """A package that this command needs and the installation lacks."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this command needs the package '{package}', which is not installed",
            todo=f"Install it with: pip install 'skinedge[{extra}]'",
        )


class IncompatibleDependencyError(SkinedgeError):
    """A package that is installed, in a version that does not work here."""

    def __init__(self, package: str, reason: str, todo: str) -> None:
        super().__init__(f"the installed {package} does not work here: {reason}", todo=todo)


class UnavailableError(SkinedgeError):
    """Something that this machine, or the installed build of a library, does not have."""


def one_of(kind: str, value: str, valid: list[str] | tuple[str, ...]) -> str:
    """Return `value` if it is among `valid`, else raise ConfigError that lists them."""
    if value not in valid:
        raise ConfigError(f"unknown {kind} '{value}'", todo=f"Valid: {', '.join(valid)}.")
    return value
