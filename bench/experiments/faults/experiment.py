"""One experiment: disturb a command, look at what it left, repeat the command, look again."""

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

UNFINISHED = (".training/", "work/evaluated/", "work/predicted.jsonl")  # what an interruption leaves for --resume
OURS = (
    ".part",
    ".training",
    ".replaced-",
    ".stage-",
    ".old",
)  # in the names of folders that are no run yet, or no more


@dataclass(frozen=True)
class Experiment:
    """number: its own, which names its sandbox; strike, kill: how the command is disturbed.

    disk: bytes that are free on its file system; largest_file: bytes that a file may have.
    """

    number: int
    command: str
    strike: Strike | None = None
    kill: Kill | None = None
    disk: int | None = None
    largest_file: int | None = None

    @property
    def action(self) -> str:
        """A signal, an error, or the limit that was set."""
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
    """What came of an experiment; struck: whether the disturbance came before the command was done.

    faults: kind -> what is wrong; swept: what an error or a signal other than KILL left until the next command.
    """

    experiment: Experiment
    struck: bool = False
    status: int = 0
    message: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    faults: dict[str, list[str]] = field(default_factory=dict)
    swept: list[str] = field(default_factory=list)

    def add(self, kind: str, what: list[str]) -> None:
        if what:
            self.faults.setdefault(kind, []).extend(what)


def perform(experiment: Experiment, area: Area, reference: Reference) -> Finding:
    """Do it in a sandbox of its own, which is removed again."""
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
        left = reference.differences(box)
        if left or not command.once:
            again = launch(box, area.filled(command.repeated(box / "work")))
            finding.cpu_seconds += again.cpu_seconds
            finding.seconds += again.seconds
            left = reference.differences(box)
            complete = not (left.missing or left.altered)
            if again.status != 0 and not (command.once and complete):  # which says that it is there already
                finding.add("does not go on", [f"status {again.status}: {again.errors.strip()[-600:]}"])
            finding.add("orphans", list(again.orphans))
        finding.add("leftovers", list(left.extra))
        finding.add("lost", [f"after the next command: {name}" for name in left.missing])
        finding.add("altered", list(left.altered))
        finding.add("invalid", [f"after the next command: {what}" for what in invalid_runs(box / "work")])
    return finding


@contextmanager
def _box(area: Area, stage: str, experiment: Experiment) -> Iterator[Path]:
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
    """What the disturbed command left and said."""
    copy = shutil.copytree(box / "work", box.with_name(f"{box.name}.logs") / "work")  # opening a run mends it
    finding.add("invalid", invalid_runs(copy))
    shutil.rmtree(copy)
    finding.add("lost", reference.lost(box))
    finding.add("orphans", list(ending.orphans))
    if not finding.struck:
        if ending.status != 0:
            finding.add("message", [f"status {ending.status} without a disturbance"])
        return
    finding.add("message", _wrong_words(finding.experiment, ending))
    if ending.status == 0:
        left = reference.differences(box)
        finding.add("wrong success", [*left.missing, *left.altered])
    if finding.experiment.action != "KILL":
        allowed = {*reference.before, *reference.after}
        extra = [name for name in reference.differences(box).extra if name not in allowed]
        finding.swept = [name for name in extra if not any(part in name for part in UNFINISHED)]


def invalid_runs(work: Path) -> list[str]:
    """Runs that do not open, and listed files that are missing or have another hash."""
    wrong = []
    for path in work.rglob(MANIFEST):
        folder = path.parent
        if any(part in name for name in folder.relative_to(work).parts for part in OURS):
            continue
        try:
            bundle = Bundle.open(folder)
            for name in bundle.entries():
                bundle.file(name)
        except SkinedgeError as error:
            wrong.append(str(error))
    return wrong


def _wrong_words(experiment: Experiment, ending: Ending) -> list[str]:
    """What is wrong with the exit status or the message."""
    said, action = ending.errors + ending.output, experiment.action
    wrong = []
    if "Traceback (most recent call last)" in said:
        wrong.append(f"traceback: {ending.errors.strip().splitlines()[-1]}")
    if experiment.is_kill:
        to_child = experiment.kill is not None and experiment.kill.to_child
        number = {"KILL": 9, "TERM": 15, "INT": 2, "HUP": 1}[action]
        expected = (0, 1) if to_child else (0, -number, 128 + number)
        if ending.status not in expected:
            wrong.append(f"status {ending.status} after SIG{action}")
    elif ending.status not in (0, 1):
        wrong.append(f"status {ending.status} after {action}")
    elif ending.status == 1 and not _names_a_place(experiment, ending):
        wrong.append("the message names no path")
    return wrong


def _names_a_place(experiment: Experiment, ending: Ending) -> bool:
    """Whether an error line names a run, or where the file that could not be written was to be."""
    lines = [line for line in ending.errors.splitlines() if line.startswith("error:")]
    parts = [part for call in ending.calls for part in Path(call.path).parts[1:2]]  # of work/.drawn.new-1/images
    names = [part.lstrip(".").split(".")[0] for part in parts]
    places = ("runs/", *names, *(() if names else ("/", ".")))
    return bool(lines) and any(place in line for line in ending.errors.splitlines() for place in places)


def row(finding: Finding) -> dict[str, Any]:
    """For the file of results."""
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
