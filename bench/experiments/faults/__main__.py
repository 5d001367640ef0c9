"""Kill every command that writes files, or fail its filesystem calls, and check what it leaves: `make faults`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.faults.commands import COMMANDS, Command
from experiments.faults.experiment import Experiment, Finding, perform, row
from experiments.faults.plan import Planner, Recorded, counts
from experiments.faults.process import import_ahead, import_more, launch
from experiments.faults.results import Reference
from experiments.faults.sandbox import Area, prepare
from experiments.faults.table import details, table
from experiments.forked import forked


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.faults", description=__doc__)
    parser.add_argument("--count", type=int, default=520, help="minimum of kills, and of errors [default: 520]")
    parser.add_argument("--seed", type=int, default=0, help="[default: 0]")
    parser.add_argument(
        "--commands", nargs="*", metavar="NAME", help="only these: " + ", ".join(c.name for c in COMMANDS)
    )
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time [default: 2]")
    parser.add_argument("--minutes", type=float, default=55, help="start no experiment after this time [default: 55]")
    parser.add_argument("--most", type=int, help="maximum number of experiments: a sample of them")
    parser.add_argument("--only", nargs="*", type=int, metavar="N", help="only the experiments with these numbers")
    parser.add_argument(
        "--area", type=Path, metavar="DIR", help="prepare the sandboxes in this folder, or reuse those in it"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result of each experiment here")
    return parser.parse_args()


def main() -> int:
    """Run the experiments and print the table. Returns 1 when a fault was found."""
    options, started = parse(), time.monotonic()
    by_name = {command.name: command for command in COMMANDS}
    unknown = [name for name in options.commands or () if name not in by_name]
    if unknown:
        sys.exit(f"no such command: {', '.join(unknown)}; available: {', '.join(by_name)}")
    commands = [by_name[name] for name in options.commands or by_name]
    if not (Path("bench/skinedge_bench/web/page/vendor")).is_dir():
        skipped = [command.name for command in commands if command.name == "web"]
        commands = [command for command in commands if command.name not in skipped]
        _ = [say("SKIPPED: web: its libraries are missing; run: make web") for _ in skipped]
    with work_area(options.area) as area:
        os.environ["MPLCONFIGDIR"] = str(area.root / "matplotlib")
        os.environ["SKINEDGE_CACHE"] = str(area.root / "cache")  # outside the compared folders
        stages = list(dict.fromkeys(command.stage for command in commands))
        import_ahead(beyond_training=not {"empty", "interrupted", "trained"}.issuperset(stages))
        prepare(area, stages, say)
        recorded = {command.name: record(area, command) for command in commands}
        disks = can_mount(area)
        experiments = Planner(recorded, options.seed, disks=disks).plan(options.count, options.count)
        if options.only:
            experiments = [experiment for experiment in experiments if experiment.number in options.only]
        experiments = experiments[: options.most]
        kills, errors = counts(experiments)
        say(f"{len(experiments)} experiments: {kills} kills, {errors} errors; seed {options.seed}")
        rows = list(run_all(area, experiments, recorded, options.jobs, started + 60 * options.minutes))
    faulty = [row for row in rows if row["faults"]]
    minutes = (time.monotonic() - started) / 60
    if options.out:
        document = {"seed": options.seed, "minutes": minutes, "experiments": rows}
        options.out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{details(faulty)}\n\n{table(rows)}\n{minutes:.1f} minutes, {options.jobs} at a time, seed {options.seed}")
    return 1 if faulty else 0


@contextmanager
def work_area(folder: Path | None) -> Iterator[Area]:
    """Yield the area in this folder, which keeps its prepared sandboxes, or in a temporary one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in ("boxes", "references", "results", "mount", "made"):
            shutil.rmtree(folder / old, ignore_errors=True)
        yield Area(folder.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="skinedge-faults-") as name:
        yield Area(Path(name))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def record(area: Area, command: Command) -> Recorded:
    """Run a command twice without a fault."""
    boxes = tuple(area.copy(command.stage, area.root / "references" / command.name / name) for name in ("one", "other"))
    one = launch(boxes[0], area.filled(command.arguments))
    import_more(one.modules)
    other = launch(boxes[1], area.filled(command.arguments))
    for ending in (one, other):
        if ending.status != 0 or ending.orphans:
            sys.exit(f"{command.name}: status {ending.status} without a fault\n{ending.errors}\n{ending.orphans}")
    cpu = other.cpu_seconds
    reference = Reference.of(command, area.stage(command.stage), (boxes[0], boxes[1]), other.seconds, cpu)
    recorded = Recorded(reference, one.calls)
    sites = len(recorded.sites)
    say(f"{command.name}: {len(one.calls)} calls at {sites} sites, {other.seconds:.1f} s, {cpu:.1f} s of CPU")
    return recorded


def can_mount(area: Area) -> bool:
    """Return True if this user can mount small file systems, for disks that are really full."""
    mount_point = area.root / "mount"
    mount_point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "skinedge-faults", str(mount_point)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        say("SKIPPED: full disks: this user may not mount a file system")
        return False
    subprocess.run(["umount", str(mount_point)], check=True)
    return True


def run_all(
    area: Area, experiments: Sequence[Experiment], recorded: dict[str, Recorded], jobs: int, deadline: float
) -> Iterator[dict[str, Any]]:
    """Run each experiment in a forked process, `jobs` at a time; yield their results as they end."""
    waiting, running, done, faulty = list(reversed(experiments)), {}, 0, 0
    results = area.root / "results"
    results.mkdir()
    while waiting or running:
        if waiting and time.monotonic() > deadline:
            say(f"NOT RUN: {len(waiting)} experiments: the time limit (--minutes) is reached")
            waiting = []
        while waiting and len(running) < jobs:
            experiment = waiting.pop()
            file = results / f"{experiment.number}.json"
            running[forked(lambda e=experiment, f=file: _run_one(area, e, recorded[e.command].reference, f))] = file
        process, status = os.wait()
        file = running.pop(process)
        if status != 0:
            sys.exit(f"experiment {file.stem} failed to run")
        result = json.loads(file.read_text())
        done, faulty = done + 1, faulty + bool(result["faults"])
        summary = f"{result['command']} {result['action']} {result['faults'] or ''}"
        say(f"{done}/{len(experiments)} {faulty} with faults  {summary}"[:300])
        yield result


def _run_one(area: Area, experiment: Experiment, reference: Reference, file: Path) -> None:
    """Perform one experiment and write its result to `file`."""
    try:
        finding = perform(experiment, area, reference)
    except Exception:
        finding = Finding(experiment, faults={"campaign": [traceback.format_exc()]})
    file.write_text(json.dumps(row(finding)))


if __name__ == "__main__":
    sys.exit(main())
