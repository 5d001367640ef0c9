"""SkinedgeError, the only exception shown to users, and its subclasses."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from skinedge.core.installation import pip_install
from skinedge.core.terminal import visible, visible_lines

BUG_HINT = "This is a fault of skinedge or of a library; SKINEDGE_DEBUG=1 shows the traceback."
MEMORY_HINT = "Close other programs, or reduce the load: one --format at a time, fewer --jobs."


class SkinedgeError(Exception):
    """An error that the user can act on; the command line prints it without a traceback and exits with 1.

    what: the problem; where: the file or option; todo: how to fix it; lines: details, one each.
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
        """Pickle the error with its notes, also for subclasses whose constructors take other arguments."""
        notes = getattr(self, "__notes__", None)
        parts = (type(self), self.what, self.where, self.todo, self.lines)
        return _restored, parts, {"__notes__": notes} if notes else None

    def __str__(self) -> str:
        """Return one line with place and problem, the detail lines, then the fix.

        Line breaks in file names are escaped, so they add no lines.
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
    """Convert any exception to a SkinedgeError with its type and message; return a SkinedgeError unchanged.

    The traceback is kept as a note (PEP 678), which survives pickling; SKINEDGE_DEBUG=1 shows it.
    """
    if isinstance(error, SkinedgeError):
        return error
    message = next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), "no message")
    todo = MEMORY_HINT if isinstance(error, MemoryError) else BUG_HINT
    return traced(SkinedgeError(f"{type(error).__name__}: {message}", where=where, todo=todo), error)


def traced(wrapped: SkinedgeError, error: Exception) -> SkinedgeError:
    """Return `wrapped` with the traceback of `error`, its cause, as a note."""
    wrapped.add_note("".join(traceback.format_exception(error)))
    return wrapped


class DataError(SkinedgeError):
    """Images, labels or splits that are unusable."""


class BundleError(SkinedgeError):
    """A run directory that is missing, incomplete, damaged or not written by skinedge."""


class ConfigError(SkinedgeError):
    """An unknown key, name, format or device, or a value out of range."""


class GateError(SkinedgeError):
    """A model file that failed one of its gates."""


class MissingDependencyError(SkinedgeError):
    """A package that the command needs and that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this command needs the package '{package}', which is not installed",
            todo=f"Install it with: {pip_install(extra)}",
        )


class IncompatibleDependencyError(SkinedgeError):
    """An installed package whose version does not work here."""

    def __init__(self, package: str, reason: str, todo: str) -> None:
        super().__init__(f"the installed {package} does not work here: {reason}", todo=todo)


class UnavailableError(SkinedgeError):
    """A feature that this machine, or the installed build of a library, lacks."""


def one_of(kind: str, value: str, valid: list[str] | tuple[str, ...]) -> str:
    """Return `value` if it is in `valid`; else raise a ConfigError that lists the valid values."""
    if value not in valid:
        raise ConfigError(f"unknown {kind} '{value}'", todo=f"Valid: {', '.join(valid)}.")
    return value
