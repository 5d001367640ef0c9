"""`python -m experiments.faults`: kills and injected errors at the filesystem calls of every command that writes."""

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
from collections.abc import Callable, Iterator, Sequence
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


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--count", type=int, default=520, help="kills at least, and injected errors at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--commands", nargs="*", metavar="NAME", help="only these: " + ", ".join(c.name for c in COMMANDS)
    )
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time")
    parser.add_argument("--minutes", type=float, default=55, help="after which no experiment begins any more")
    parser.add_argument("--most", type=int, help="experiments at most: a sample of them")
    parser.add_argument("--only", nargs="*", type=int, metavar="N", help="only the experiments with these numbers")
    parser.add_argument(
        "--area", type=Path, metavar="DIR", help="prepare the sandboxes here, or use those that are here"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="keep what came of each experiment")
    return parser.parse_args()


def main() -> int:
    """Exit code: 1 when a fault was found."""
    given, started = options(), time.monotonic()
    known = {command.name: command for command in COMMANDS}
    unknown = [name for name in given.commands or () if name not in known]
    if unknown:
        sys.exit(f"no such command: {', '.join(unknown)}; there are: {', '.join(known)}")
    commands = [known[name] for name in given.commands or known]
    if not (Path("bench/skinedge_bench/web/page/vendor")).is_dir():
        skipped = [command.name for command in commands if command.name == "web"]
        commands = [command for command in commands if command.name not in skipped]
        _ = [say("SKIPPED: web: its libraries are not there (make web)") for _ in skipped]
    with work_area(given.area) as area:
        os.environ["MPLCONFIGDIR"] = str(area.root / "matplotlib")
        os.environ["SKINEDGE_CACHE"] = str(area.root / "cache")  # no part of what is judged
        stages = list(dict.fromkeys(command.stage for command in commands))
        import_ahead(beyond_training=not {"empty", "interrupted", "trained"}.issuperset(stages))
        prepare(area, stages, say)
        recorded = {command.name: record(area, command) for command in commands}
        disks = can_mount(area)
        experiments = Planner(recorded, given.seed, disks=disks).plan(given.count, given.count)
        if given.only:
            experiments = [each for each in experiments if each.number in given.only]
        experiments = experiments[: given.most]
        kills, errors = counts(experiments)
        say(f"{len(experiments)} experiments: {kills} kills, {errors} errors; seed {given.seed}")
        rows = list(carry_out(area, experiments, recorded, given.jobs, started + 60 * given.minutes))
    faulty = [each for each in rows if each["faults"]]
    minutes = (time.monotonic() - started) / 60
    if given.out:
        given.out.write_text(json.dumps({"seed": given.seed, "minutes": minutes, "experiments": rows}, indent=1) + "\n")
    print(f"{details(faulty)}\n\n{table(rows)}\n{minutes:.1f} minutes, {given.jobs} at a time, seed {given.seed}")
    return 1 if faulty else 0


@contextmanager
def work_area(named: Path | None) -> Iterator[Area]:
    """A temporary folder, or the named one, in which the prepared sandboxes stay."""
    if named is not None:
        named.mkdir(parents=True, exist_ok=True)
        for old in ("boxes", "references", "results", "mount", "made"):
            shutil.rmtree(named / old, ignore_errors=True)
        yield Area(named.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="skinedge-faults-") as folder:
        yield Area(Path(folder))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def record(area: Area, command: Command) -> Recorded:
    """Run a command undisturbed, twice."""
    boxes = tuple(area.copy(command.stage, area.root / "references" / command.name / name) for name in ("one", "other"))
    one = launch(boxes[0], area.filled(command.arguments))
    import_more(one.modules)
    other = launch(boxes[1], area.filled(command.arguments))
    for ending in (one, other):
        if ending.status != 0 or ending.orphans:
            sys.exit(f"{command.name}: status {ending.status}, undisturbed\n{ending.errors}\n{ending.orphans}")
    cpu = other.cpu_seconds
    reference = Reference.of(command, area.stage(command.stage), (boxes[0], boxes[1]), other.seconds, cpu)
    found = Recorded(reference, one.calls)
    say(
        f"{command.name}: {len(one.calls)} calls at {len(found.sites)} sites, {other.seconds:.1f} s, {cpu:.1f} s of CPU"
    )
    return found


def can_mount(area: Area) -> bool:
    """Whether small file systems can be made here, for disks that are really full."""
    place = area.root / "mount"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "skinedge-faults", str(place)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        say("SKIPPED: full disks: this user may not mount a file system")
        return False
    subprocess.run(["umount", str(place)], check=True)
    return True


def carry_out(
    area: Area, experiments: Sequence[Experiment], recorded: dict[str, Recorded], jobs: int, deadline: float
) -> Iterator[dict[str, Any]]:
    """Each experiment in a forked process, so many at a time; what came of them, as they end."""
    waiting, running, done, bad = list(reversed(experiments)), {}, 0, 0
    results = area.root / "results"
    results.mkdir()
    while waiting or running:
        if waiting and time.monotonic() > deadline:
            say(f"NOT DONE: {len(waiting)} experiments, as the time is over (--minutes)")
            waiting = []
        while waiting and len(running) < jobs:
            experiment = waiting.pop()
            file = results / f"{experiment.number}.json"
            running[_forked(lambda e=experiment, f=file: _one(area, e, recorded[e.command].reference, f))] = file
        process, status = os.wait()
        file = running.pop(process)
        if status != 0:
            sys.exit(f"experiment {file.stem} could not be done")
        found = json.loads(file.read_text())
        done, bad = done + 1, bad + bool(found["faults"])
        what = f"{found['command']} {found['action']} {found['faults'] or ''}"
        say(f"{done}/{len(experiments)} {bad} with faults  {what}"[:300])
        yield found


def _one(area: Area, experiment: Experiment, reference: Reference, file: Path) -> None:
    try:
        finding = perform(experiment, area, reference)
    except Exception:
        finding = Finding(experiment, faults={"campaign": [traceback.format_exc()]})
    file.write_text(json.dumps(row(finding)))


def _forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
