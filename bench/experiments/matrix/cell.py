"""One cell of the matrix: input files, the commands to run, and the outcome that is expected of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from experiments.fuzz.case import Case, Outcome
from experiments.fuzz.oracles import findings

LIMIT = 15  # seconds of CPU time in which a refused input must be refused
FAILED_GATES = (
    "error: a gate failed:",
    "error: merging changed a logit by",
    "no file kept the diagnosis on validation images:",
)
Invariant = Callable[[Outcome, Path], str | None]  # last command's outcome, working folder -> what is wrong


@dataclass(frozen=True)
class Expected:
    """The expected outcome, stated before the cell runs.

    invariant: holds when the commands work, None if the last one must refuse the input; names: words of its error, None
    if it must not refuse; says: words that a working command must show; gate: instead of `names`, a gate of any
    of the commands may fail, by name.
    """

    invariant: Invariant | None = None
    names: tuple[str, ...] | None = None
    says: tuple[str, ...] = ()
    gate: bool = False

    def __str__(self) -> str:
        kinds = [*([] if self.invariant is None else ["works"]), *(["failed gate"] if self.gate else [])]
        return " or ".join([*kinds, *([] if self.names is None else ["one line"])])


def works(invariant: Invariant, *says: str) -> Expected:
    """Expect success: `invariant` holds, and the screen shows the words `says`."""
    return Expected(invariant, None, says)


def one_line(*names: str) -> Expected:
    """Expect exit code 1 and an error with the words `names`, within LIMIT seconds."""
    return Expected(None, names)


def works_or_one_line(invariant: Invariant, *names: str) -> Expected:
    """Expect either: for inputs that a newer version, or an installed extra, may understand."""
    return Expected(invariant, names)


def works_or_gate(invariant: Invariant) -> Expected:
    """Expect success, or a failed gate that the error names."""
    return Expected(invariant, gate=True)


def nothing_wrong(outcome: Outcome, work: Path) -> str | None:
    """The invariant of commands whose exit code says everything."""
    return None


@dataclass(frozen=True)
class Cell:
    """One cell. Its commands run one after another, up to the first that fails.

    prepare: writes the input into the working folder; commands: arguments of `skinedge`; env: changes of the
    environment, None removes a variable; shell: lines of a shell script that start the command in a new process (''
    for a process forked from this one); writes: files and folders that a refusing command may leave; minutes: timeout;
    skip: why the cell cannot run here.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    expected: Expected
    prepare: Callable[[Path], None] = lambda work: None
    env: Mapping[str, str | None] = field(default_factory=dict)
    shell: str = ""
    writes: tuple[str, ...] = ()
    minutes: float = 5
    skip: str = ""


@dataclass(frozen=True)
class Plan:
    """What the parts draw their cells from.

    fixture: folder with a small trained run (`experiments.fuzz.fixture`); rng: of the drawn mutations; quick: only the
    cells of the test.
    """

    fixture: Path
    rng: Random
    quick: bool = False


@dataclass(frozen=True)
class Result:
    """How a cell ended.

    code: exit code, None after a crash or hang; verdict: 'ok', 'DEFECT: ...' or 'not run: ...'; said: the error, or the
    last line, of the last command.
    """

    part: str
    name: str
    expected: str
    code: int | None
    traceback: bool
    seconds: float
    verdict: str
    said: str = ""

    @property
    def defect(self) -> bool:
        return self.verdict.startswith("DEFECT")


def judge(expected: Expected, outcome: Outcome, work: Path, left: Sequence[str]) -> str | None:
    """Return what is wrong with an outcome. left: files that the commands wrote."""
    faults = findings(Case("matrix"), outcome, None, (), work)
    if faults:
        return f"{faults[0].kind}: {faults[0].detail}"
    output = shown(outcome)
    if outcome.code == 0:
        if expected.invariant is None:
            return "accepted"
        missing = [words for words in expected.says if not contains(output, words)]
        return f"does not say {missing}" if missing else _check(expected.invariant, outcome, work)
    if expected.gate and any(contains(output, words) for words in FAILED_GATES):
        return None
    if expected.names is None:
        return f"refused: {error_of(outcome)}"
    if outcome.seconds > LIMIT:
        return f"refused only after {outcome.seconds:.0f} s"
    missing = [words for words in expected.names if not contains(output, words)]
    if missing:
        return f"the error does not name {missing}: {error_of(outcome)}"
    return f"refused, but leaves {', '.join(left[:3])}" if left else None


def _check(invariant: Invariant, outcome: Outcome, work: Path) -> str | None:
    """Call the invariant; a file or output that it cannot read is a defect too."""
    try:
        return invariant(outcome, work)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def shown(outcome: Outcome) -> str:
    """Return everything that a command printed."""
    return (outcome.stdout + b"\n" + outcome.stderr).decode("utf-8", "replace")


def contains(output: str, words: str) -> bool:
    """Return True if the words are shown, in any case; tables and long lines may break them."""
    return " ".join(words.casefold().split()) in " ".join(output.casefold().split())


def error_of(outcome: Outcome) -> str:
    """Return the error line of a command, else its last line."""
    lines = [line for line in shown(outcome).splitlines() if line.strip()]
    return next((line for line in lines if "error: " in line or "FAILED" in line), (lines or [""])[-1])[:300]
