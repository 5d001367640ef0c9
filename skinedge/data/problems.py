"""What training refuses in a folder, collected so that all of it can be listed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import DataError


@dataclass(frozen=True)
class Problem:
    """One kind of fault in a folder.

    what: in the plural, e.g. 'images are in no class folder'; where: file or folder; cases: a text for each of them;
    todo: how to fix it; images: paths of the images whose omission fixes it, () if none does.
    """

    what: str
    where: str
    cases: tuple[str, ...]
    todo: str = ""
    images: tuple[str, ...] = ()

    def line(self, most: int = 3) -> str:
        """Return the number of cases and the first of them."""
        shown = [*self.cases[:most], *(["..."] if len(self.cases) > most else [])]
        return f"{len(self.cases)} {self.what}{': ' if shown else ''}{', '.join(shown)}"


def refuse(problems: Sequence[Problem], root: Path) -> None:
    """Raises: DataError with every problem, if there is one."""
    if len(problems) == 1:
        raise DataError(problems[0].line(), where=problems[0].where, todo=problems[0].todo)
    if problems:
        raise DataError(
            f"{len(problems)} kinds of problems:",
            where=str(root),
            lines=[f"  {problem.line()}" for problem in problems],
            todo="\n".join(dict.fromkeys(problem.todo for problem in problems if problem.todo)),
        )
