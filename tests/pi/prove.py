"""The base install on emulated Raspberry Pi cores, with the shipped model: `make pi`.

On each core, without torch: `verify` replays all golden vectors in every model file, and what each file answers is
compared with what it answers here; `predict` and `evaluate` must say what they say here; `bench` must refuse to time:
an emulated second is never reported as one.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file

from pi.compare import Result, same_answers, same_evaluation, same_predictions, untimed
from pi.debian import Unreachable
from pi.emulator import FOLDER
from pi.machine import CORES, REPOSITORY, Machine, finished, prepare

from skinedge.cli.common import table
from skinedge.core.errors import SkinedgeError
from skinedge.data import synthetic
from skinedge.run import golden
from skinedge.system.progress import note

SHIPPED = REPOSITORY / "skinedge" / "flagship"
REPLAY = Path(__file__).with_name("replay.py")
LARGEST = 250  # MiB, with bytecode
DRAWN = 14  # images for evaluate, two of each class
PHOTOS = 3  # golden images before preparation, for predict
AT_ONCE = 2  # machines

Python = Callable[..., str]  # what `python ARGUMENTS` prints; raises SkinedgeError when it exits with anything but 0


@dataclass(frozen=True)
class Said:
    """What one Python said. answers: file -> (64, C) probabilities; the rest: the commands' documents."""

    answers: dict[str, np.ndarray]
    predictions: list[dict[str, Any]]
    evaluation: dict[str, Any]
    bench: dict[str, Any]


def main() -> int:
    try:
        machines = prepare(FOLDER)
    except Unreachable as error:
        note(f"SKIPPED: no emulated Raspberry Pi can be made here: {error}")
        return 0
    draw(FOLDER / "images")
    here = say(partial(finished, where=fresh(FOLDER / "here"), start=[sys.executable]), FOLDER / "here")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(partial(prove, here=here), machines))
    titles = [f"{CORES[m.core]}: {m.core}, Python {m.python}" for m in machines]
    steps = list(dict.fromkeys(step for results in found for step in results))
    rows = [[step, *(r[step].text if step in r else None for r in found)] for step in steps]
    table("The base install on emulated cores, with the shipped model", ("step", *titles), rows)
    wrong = [
        (title, step)
        for title, r in zip(titles, found, strict=True)
        for step in steps
        if step in r and not r[step].good
    ]
    for title, step in wrong:
        note(f"FAILED: {title}: {step}")
    return int(bool(wrong))


def draw(images: Path) -> None:
    """Drawn images with labels in `images`, and photos without in `images`/../photos: they show no patient."""
    fresh(images)
    for index in range(DRAWN):
        label = images / synthetic.LABELS[index % len(synthetic.LABELS)]
        label.mkdir(exist_ok=True)
        Image.fromarray(synthetic.draw(index, index % len(synthetic.LABELS), 224, 224)).save(label / f"{index}.png")
    photos = fresh(images.with_name("photos"))
    sources = golden.load(SHIPPED / "golden.npz").sources
    for index in sorted(sources)[:PHOTOS]:
        Image.fromarray(sources[index]).save(photos / f"{index}.png")


def say(python: Python, work: Path) -> Said:
    """Let a Python do everything. work: its working folder, empty."""
    images, photos, run = work.with_name("images"), work.with_name("photos"), work / "run"
    shutil.copytree(SHIPPED, run)
    skinedge = partial(python, "-m", "skinedge")
    python(str(REPLAY), str(run), str(work / "answers.npz"))
    with np.load(work / "answers.npz") as archive:
        answers = dict(archive)
    return Said(
        answers,
        [json.loads(line) for line in skinedge("predict", str(photos), "--run", str(run), "--json").splitlines()],
        json.loads(skinedge("evaluate", str(run), "--data", str(images), "--split", "all", "--json")),
        json.loads(skinedge("bench", str(run / "model.int8.tflite"), "--protocol", "quick", "--json")),
    )


def prove(machine: Machine, here: Said) -> dict[str, Result]:
    """Step -> what came of it."""
    plain, whole = (size / 2**20 for size in machine.installed())
    without = not (machine.site / "torch").exists()
    found = {"installed, with bytecode": Result(f"{plain:.0f} MiB, {whole:.0f} MiB", whole <= LARGEST and without)}
    work = fresh(machine.folder / f"work-{machine.core}-{machine.python}")
    try:
        there = say(partial(machine.finished, where=work), work)
    except SkinedgeError as error:
        return {**found, "ran to its end": Result(str(error), good=False)}
    for name, expected in here.answers.items():
        found[f"verify passes; {name}"] = same_answers(name, expected, there.answers[name])
    found["predict"] = same_predictions(here.predictions, there.predictions)
    found["evaluate"] = same_evaluation(here.evaluation, there.evaluation)
    found["bench"] = untimed(there.bench)
    note(f"{machine.core}, Python {machine.python}: done")
    return found


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
