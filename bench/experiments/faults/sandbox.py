"""The folders in which commands run: built once per stage, copied for each experiment."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.faults.commands import CONFIG, DATA, EVALUATE, FOLDER, IMAGE, PREDICT, SHIP, TRAIN, Arguments
from experiments.faults.process import Ending, launch
from experiments.faults.strike import Strike

IMAGES = ("--count", "70", "--size", "32", "--seed", "3")
FEW = 12


@dataclass(frozen=True)
class Area:
    """The folder of a campaign. A sandbox ('box') is a folder with `work`, `tmp`, `home` and `run`."""

    root: Path

    def stage(self, name: str) -> Path:
        return self.root / "stages" / name

    def filled(self, arguments: Sequence[str]) -> Arguments:
        """Replace the placeholders of images by their paths."""
        few = self.root / "few"
        paths = {DATA: str(self.root / "data"), FOLDER: str(few), IMAGE: str(min(few.glob("*.jpg"), default=""))}
        return tuple(paths.get(argument, argument) for argument in arguments)

    def copy(self, stage: str, to: Path) -> Path:
        return Path(shutil.copytree(self.stage(stage), to, symlinks=True))


def prepare(area: Area, stages: Sequence[str], say: Callable[[str], None]) -> None:
    """Build the images, these stages and the stages that they start from."""
    if not area.stage("bare").exists():
        _bare(area)
    needed = list(stages)
    for name in needed:
        needed += [base for base in (STAGES[name][0],) if base not in needed and base != "bare"]
    for name, (base, build) in STAGES.items():
        if name in needed and not area.stage(name).exists():
            say(f"preparing: {name}")
            box = area.copy(base, area.root / "made" / name)
            build(area, box)
            box.rename(area.stage(name))


def _bare(area: Area) -> None:
    """Build the images and the sandbox that all others start from."""
    box = area.stage("bare")
    for folder in ("work", "tmp", "home", "run"):
        (box / folder).mkdir(parents=True, mode=0o700)
    work = box / "work"
    (work / "tiny.toml").write_text(CONFIG)
    (work / "other.toml").write_text(CONFIG.replace("epochs = 2", "epochs = 1\nseed = 5"))
    (work / "notes.txt").write_text("A file of the user's, which no command may touch.\n")
    _run(area, box, ("data", "synth", "images", *IMAGES))
    (work / "images").rename(area.root / "data")
    (area.root / "few").mkdir()
    for image in sorted((area.root / "data").rglob("*.jpg"))[:: 70 // FEW][:FEW]:
        shutil.copyfile(image, area.root / "few" / image.name)


def _run(area: Area, box: Path, arguments: Sequence[str]) -> Ending:
    """Run a command without a fault. Raises: SystemExit when it fails."""
    ending = launch(box, area.filled(arguments))
    if ending.status != 0:
        raise SystemExit(f"skinedge {' '.join(arguments)}: status {ending.status}\n{ending.errors}")
    return ending


def _interrupt(area: Area, box: Path, arguments: Sequence[str], ends: str) -> None:
    """Kill a command at the middle one of its calls on paths that end with `ends`."""
    trial = Path(shutil.copytree(box, box.with_name("trial")))
    calls = _run(area, trial, arguments).calls
    shutil.rmtree(trial)
    matching = [index for index, call in enumerate(calls) if call.path.endswith(ends)]
    index = matching[len(matching) // 2]
    site = calls[index].site
    occurrence = sum(call.site == site for call in calls[: index + 1])
    launch(box, area.filled(arguments), strike=Strike(site, occurrence, "KILL"))


def _halve(path: Path) -> None:
    """Keep half of a file's lines and the start of the next one."""
    lines = path.read_bytes().splitlines(keepends=True)
    half = len(lines) // 2
    path.write_bytes(b"".join(lines[:half]) + lines[half][:40])


def _empty(area: Area, box: Path) -> None:
    _run(area, box, (*(argument.replace("runs/new", "runs/other") for argument in TRAIN),))


def _trained(area: Area, box: Path) -> None:
    shutil.copytree(box / "work/runs/other", box / "work/runs/a")


def _merged(area: Area, box: Path) -> None:
    _run(area, box, ("merge", "runs/a", "--data", DATA))


def _exported(area: Area, box: Path) -> None:
    for more in (("onnx", "--int8"), ("tflite",)):
        _run(area, box, ("export", "runs/a", "--data", DATA, "--format", *more))


def _finished(area: Area, box: Path) -> None:
    _run(area, box, ("verify", "runs/a", "--data", DATA))
    _run(area, box, (*EVALUATE[:-1], "evaluation"))


def _interrupted(area: Area, box: Path) -> None:
    _interrupt(area, box, TRAIN, "new.training/checkpoint.pt")


def _evaluating(area: Area, box: Path) -> None:
    _interrupt(area, box, EVALUATE, "/evaluation.json")
    unfinished = box / "work/evaluated/unfinished.jsonl"
    for path in unfinished.parent.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != unfinished:
            path.unlink()
    _halve(unfinished)


def _predicting(area: Area, box: Path) -> None:
    _run(area, box, PREDICT)
    _halve(box / "work/predicted.jsonl")


def _shipped(area: Area, box: Path) -> None:
    _run(area, box, SHIP)


def _placed(area: Area, box: Path) -> None:
    """Put another model into the app's assets: the same one under another name, since only the name matters here."""
    _run(area, box, ("android", "--model", "runs/a", "--to", "assets"))
    for path in list((box / "work/assets").iterdir()):
        path.rename(path.with_name(path.name.replace("model.", "older.")))


# name -> (the stage that it starts from, the function that builds it), in building order
STAGES: dict[str, tuple[str, Callable[[Area, Path], None]]] = {
    "empty": ("bare", _empty),
    "interrupted": ("empty", _interrupted),
    "trained": ("empty", _trained),
    "merged": ("trained", _merged),
    "exported": ("merged", _exported),
    "finished": ("exported", _finished),
    "evaluating": ("finished", _evaluating),
    "predicting": ("finished", _predicting),
    "shipped": ("finished", _shipped),
    "placed": ("finished", _placed),
}
