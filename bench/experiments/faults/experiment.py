"""One experiment: inject a fault into a command, check what it left, repeat the command, check again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.faults.process import Ending, Kill, launch
from experiments.faults.results import Reference
from experiments.faults.sandbox import Area
from experiments.faults.strike import SIGNALS, Strike
from skinedge.core.errors import SkinedgeError
from skinedge.run.manifest import MANIFEST
from skinedge.run.run_directory import Bundle

UNFINISHED = (".training/", "work/evaluated/", "work/predicted.jsonl")  # left by an interruption for --resume
# Parts of the names of folders that are not yet, or no longer, a run.
OURS = (".part", ".training", ".new-", ".replaced-", ".stage-", ".old")


@dataclass(frozen=True)
class Experiment:
    """One command with one fault: exactly one of strike, kill, disk and largest_file.

    number: unique, names its sandbox; strike: fault at a filesystem call; kill: signal at a time; disk: free bytes on
    its file system; largest_file: maximum bytes of a file.
    """

    number: int
    command: str
    strike: Strike | None = None
    kill: Kill | None = None
    disk: int | None = None
    largest_file: int | None = None

    @property
    def action(self) -> str:
        """The signal, the error, or the kind of limit."""
        if self.disk is not None:
            return "full disk"
        if self.largest_file is not None:
            return "file size limit"
        return (self.strike or self.kill).action  # type: ignore[union-attr]

    @property
    def is_kill(self) -> bool:
        return self.action in SIGNALS


@dataclass
class Finding:
    """Result of an experiment.

    struck: the fault came before the command ended; faults: kind -> descriptions; swept: paths left by an error or a
    signal other than KILL, until the next command removes them.
    """

    experiment: Experiment
    struck: bool = False
    status: int = 0
    message: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    faults: dict[str, list[str]] = field(default_factory=dict)
    swept: list[str] = field(default_factory=list)

    def add(self, kind: str, descriptions: list[str]) -> None:
        if descriptions:
            self.faults.setdefault(kind, []).extend(descriptions)


def perform(experiment: Experiment, area: Area, reference: Reference) -> Finding:
    """Run an experiment in its own sandbox, which is removed afterwards."""
    finding, command = Finding(experiment), reference.command
    with _box(area, command.stage, experiment) as box:
        arguments = area.filled(command.arguments)
        ending = launch(
            box, arguments, strike=experiment.strike, kill=experiment.kill, largest_file=experiment.largest_file
        )
        limited = experiment.disk is not None or experiment.largest_file is not None
        finding.struck = bool(ending.calls) if experiment.strike else ending.sent or (limited and ending.status != 0)
        finding.status, finding.message = ending.status, ending.errors.strip()[-1500:]
        finding.seconds, finding.cpu_seconds = ending.seconds, ending.cpu_seconds
        _judge(finding, ending, box, reference)
        if experiment.disk is not None:
            subprocess.run(["mount", "-o", "remount,size=1g", box], check=True)
        differences = reference.differences(box)
        if differences or not command.once:
            again = launch(box, area.filled(command.repeated(box / "work")))
            finding.cpu_seconds += again.cpu_seconds
            finding.seconds += again.seconds
            differences = reference.differences(box)
            complete = not (differences.missing or differences.altered)
            if again.status != 0 and not (command.once and complete):  # complete: it refuses to replace its output
                finding.add("does not go on", [f"status {again.status}: {again.errors.strip()[-600:]}"])
            finding.add("orphans", list(again.orphans))
        finding.add("leftovers", list(differences.extra))
        finding.add("lost", [f"after the next command: {name}" for name in differences.missing])
        finding.add("altered", list(differences.altered))
        finding.add("invalid", [f"after the next command: {error}" for error in invalid_runs(box / "work")])
    return finding


@contextmanager
def _box(area: Area, stage: str, experiment: Experiment) -> Iterator[Path]:
    """Yield a copy of the stage, on a small file system of its own for a full disk; remove it afterwards."""
    box = area.root / "boxes" / f"{experiment.number}"
    box.parent.mkdir(exist_ok=True)
    try:
        if experiment.disk is not None:
            box.mkdir()
            size = sum((path.stat().st_size + 4095) // 4096 + 1 for path in area.stage(stage).rglob("*")) * 4096
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size + experiment.disk}", "skinedge-faults", box], check=True
            )
            shutil.copytree(area.stage(stage), box, dirs_exist_ok=True)
        else:
            area.copy(stage, box)
        yield box
    finally:
        if experiment.disk is not None:
            subprocess.run(["umount", box], check=True)
        for folder in (box, box.with_name(f"{box.name}.logs")):
            shutil.rmtree(folder)


def _judge(finding: Finding, ending: Ending, box: Path, reference: Reference) -> None:
    """Check the files and messages of the command with the fault."""
    copy = shutil.copytree(box / "work", box.with_name(f"{box.name}.logs") / "work")  # opening a run repairs it
    finding.add("invalid", invalid_runs(copy))
    shutil.rmtree(copy)
    finding.add("lost", reference.lost(box))
    finding.add("orphans", list(ending.orphans))
    if not finding.struck:
        if ending.status != 0:
            finding.add("message", [f"status {ending.status} without a fault"])
        return
    finding.add("message", _message_faults(finding.experiment, ending))
    if ending.status == 0:
        differences = reference.differences(box)
        finding.add("wrong success", [*differences.missing, *differences.altered])
    if finding.experiment.action != "KILL":
        allowed = {*reference.before, *reference.after}
        extra = [name for name in reference.differences(box).extra if name not in allowed]
        finding.swept = [name for name in extra if not any(part in name for part in UNFINISHED)]


def invalid_runs(work: Path) -> list[str]:
    """Return the errors of runs that do not open, and of listed files that are missing or have another hash."""
    errors = []
    for path in work.rglob(MANIFEST):
        folder = path.parent
        if any(part in name for name in folder.relative_to(work).parts for part in OURS):
            continue
        try:
            bundle = Bundle.open(folder)
            for name in bundle.entries():
                bundle.file(name)
        except SkinedgeError as error:
            errors.append(str(error))
    return errors


def _message_faults(experiment: Experiment, ending: Ending) -> list[str]:
    """Return the faults of the exit status and of the message."""
    output, action = ending.errors + ending.output, experiment.action
    faults = []
    if "Traceback (most recent call last)" in output:
        faults.append(f"traceback: {ending.errors.strip().splitlines()[-1]}")
    if experiment.is_kill:
        to_child = experiment.kill is not None and experiment.kill.to_child
        number = {"KILL": 9, "TERM": 15, "INT": 2, "HUP": 1}[action]
        expected = (0, 1) if to_child else (0, -number, 128 + number)
        if ending.status not in expected:
            faults.append(f"status {ending.status} after SIG{action}")
    elif ending.status not in (0, 1):
        faults.append(f"status {ending.status} after {action}")
    elif ending.status == 1 and not _names_a_path(ending):
        faults.append("the message names no path")
    return faults


def _names_a_path(ending: Ending) -> bool:
    """Return True if the error names a run, or the output whose file could not be written."""
    lines = [line for line in ending.errors.splitlines() if line.startswith("error:")]
    parts = [part for call in ending.calls for part in Path(call.path).parts[1:2]]  # of work/.drawn.new-1/images
    names = [part.lstrip(".").split(".")[0] for part in parts]
    accepted = ("runs/", *names, *(() if names else ("/", ".")))
    return bool(lines) and any(name in line for line in ending.errors.splitlines() for name in accepted)


def row(finding: Finding) -> dict[str, Any]:
    """Return the finding as an entry of the results file."""
    experiment = finding.experiment
    return {
        "number": experiment.number,
        "command": experiment.command,
        "action": experiment.action,
        "kind": "kill" if experiment.is_kill else "error",
        "strike": experiment.strike and vars(experiment.strike),
        "timed": experiment.kill and vars(experiment.kill),
        "disk": experiment.disk,
        "largest_file": experiment.largest_file,
        "struck": finding.struck,
        "status": finding.status,
        "message": finding.message,
        "seconds": round(finding.seconds, 2),
        "cpu_seconds": round(finding.cpu_seconds, 2),
        "faults": finding.faults,
        "swept": finding.swept,
    }
