"""Checks of every outcome: the results that no input may have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.fuzz.case import Case, Outcome

CODES = (0, 1, 2, 130)
MEMORY_MIB = 1536  # limit for commands that do not import torch
TRACEBACK = re.compile(
    rb"Traceback \(most recent call last\)|^error: unexpected |^Aborted[!.]|Fatal Python error|Exception ignored in",
    re.M,
)
# Control characters except line ends and tabs; C1 in UTF-8. The carriage return of progress bars is allowed.
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
CRASH = re.compile(r"/crash-|/skinedge$|home/\.(state|local)$")
INJECTED = re.compile(rb"(^|[\r\x85])INJECTED", re.M)
KINDS = ("traceback", "crash", "hang", "memory", "altered", "outside", "control", "code")


@dataclass(frozen=True)
class Finding:
    """A result that no input may have. kind: one of KINDS; detail: one line for debugging."""

    kind: str
    detail: str

    @property
    def sort(self) -> str:
        """Key that findings of the same cause share."""
        return f"{self.kind} {self.detail.rpartition('[')[2][:80]}"


def findings(case: Case, outcome: Outcome, plain: Outcome | None, outside: Sequence[str], work: Path) -> list[Finding]:
    """Return everything that is wrong with the outcome of an input.

    plain: outcome of the same command without the mutation, None if not needed; outside: changed paths that the command
    may not write.
    """
    result = []
    output = outcome.stderr + b"\n" + outcome.stdout
    if outcome.failure:
        result.append(Finding(outcome.failure, _last_line(outcome.stderr)))
    elif TRACEBACK.search(outcome.stderr):
        result.append(Finding("traceback", _last_line(outcome.stderr)))
    elif outcome.code not in CODES:
        result.append(Finding("code", f"exit code {outcome.code}: {_last_line(outcome.stderr)}"))
    if outcome.peak_mib > MEMORY_MIB and not outcome.torch:
        result.append(Finding("memory", f"{outcome.peak_mib:.0f} MiB"))
    outside = [name for name in outside if not CRASH.search(name)]  # crash reports count as tracebacks
    if outside:
        result.append(Finding("outside", ", ".join(outside[:5])))
    control = CONTROL.search(output) or INJECTED.search(output)
    if control and not outcome.failure:
        result.append(Finding("control", repr(output[max(0, control.start() - 60) : control.end() + 30])))
    if outcome.code == 0 and plain is not None:
        altered = _altered(case, outcome, plain, work)
        if altered:
            result.append(Finding("altered", altered))
    return result


def _altered(case: Case, outcome: Outcome, plain: Outcome, work: Path) -> str | None:
    changed = [name for name in case.guarded if str((work / name).resolve()) in plain.opened]
    if changed:
        return f"accepted although it reads the changed {', '.join(changed)}"
    return case.judge(outcome, plain, work) if case.judge else None


def _last_line(stderr: bytes) -> str:
    """Return the exception of a traceback, with the innermost line of our packages."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    frames = [re.sub(r'^.*?/?((?:skinedge|export|bench)/[^"]*)", line (\d+).*$', r"\1:\2", line) for line in lines
              if re.search(r'File ".*(skinedge|skinedge_\w+)/.*", line', line)]  # fmt: skip
    unexpected = [line for line in lines if line.startswith("error: unexpected ")]
    return f"{(unexpected or lines or [''])[-1][:300]} [{frames[-1].strip() if frames else ''}]"
