"""Commands on unusual machines: variables, limits, folders and streams that are missing, wrong or closed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.fuzz import fixture
from experiments.fuzz.case import Outcome
from experiments.fuzz.fixture import RUN
from experiments.matrix.cell import Cell, Expected, Invariant, Plan, nothing_wrong, one_line, works, works_or_one_line
from experiments.matrix.photos import write_photos

DATA, IMAGE = "data", "data/mel/m\u00e4l0.jpg"
LABELS, COUNT = ("mel", "nv"), 12
CONFIG = """backbone = "test_efficientnet"
weights = "random"
image_size = 32
epochs = 1
batch_size = 8
precision = "fp32"
"""
START = 'exec "$@"'
NOWHERE: Mapping[str, str | None] = dict.fromkeys(
    ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "SKINEDGE_CACHE", "MPLCONFIGDIR")
)
MODULES = "random json typing numpy torch PIL skinedge signal"
CGROUP = Path("/sys/fs/cgroup/cpu")  # of version 1
OWN_GROUP = (
    f"mkdir {CGROUP}/$$ && echo 100000 > {CGROUP}/$$/cpu.cfs_quota_us && echo $$ > {CGROUP}/$$/cgroup.procs || exit 9; "
    f'"$@"; code=$?; echo $$ > {CGROUP}/cgroup.procs; rmdir {CGROUP}/$$; exit $code'
)
ROOT = os.geteuid() == 0
FOR_ALL = all(path.stat().st_mode & 1 for path in Path(sys.executable).resolve().parents)


@dataclass(frozen=True)
class Machine:
    """An environment. env: changes of variables; shell: starts the command; skip: why it cannot be made here."""

    name: str
    env: Mapping[str, str | None] = field(default_factory=dict)
    shell: str = START
    skip: str = ""


MACHINES = (
    Machine("no HOME", {"HOME": None, **NOWHERE, "XDG_CACHE_HOME": "/nonexistent"}),
    Machine("HOME is missing", {"HOME": "/nonexistent/home", **NOWHERE}),
    Machine("HOME is empty", {"HOME": "", **NOWHERE, "XDG_CACHE_HOME": "/nonexistent"}),
    Machine("HOME is read-only", {"HOME": "/sys", **NOWHERE}),
    Machine("HOME is a file", {"HOME": "/dev/null", **NOWHERE}),
    Machine("a user without a name and a home", {"HOME": None, **NOWHERE},
            'chmod -R a+rwX .. && exec setpriv --reuid 12345 --regid 12345 --clear-groups "$@"',
            "" if ROOT and shutil.which("setpriv") and FOR_ALL else "needs root, setpriv, and a Python for all users"),
    Machine("TMPDIR is missing", {"TMPDIR": "/nonexistent"}),
    Machine("TMPDIR is read-only", {"TMPDIR": "/sys"}),
    Machine("64 open files", shell=f"ulimit -n 64; {START}"),
    Machine("LANG=C", {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Machine("Latin-1 terminal", {"PYTHONIOENCODING": "latin-1"}),
    Machine("COLUMNS=40", {"COLUMNS": "40"}),
    Machine("COLUMNS=1", {"COLUMNS": "1", "LINES": "1"}),
    Machine("no PATH", {"PATH": ""}),
    Machine("TERM=dumb", {"TERM": "dumb", "NO_COLOR": "1"}),
    Machine("stray RANK and WORLD_SIZE", {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}),
    Machine("SLURM", {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7",
                      "SLURM_NODELIST": "n[1-2]", "SLURM_CPUS_PER_TASK": "1"}),
    Machine("MPI", {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMI_SIZE": "2", "PMI_RANK": "1"}),
    Machine("closed standard error", shell=f"{START} 2>&-"),
    Machine("closed standard input", shell=f"{START} <&-"),
    Machine("modules beside", shell=f"for m in {MODULES}; do echo 'import executed_by_mistake' > $m.py; done; {START}"),
    Machine("PYTHONOPTIMIZE=2", {"PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": "1"}),
    Machine("time zone of nowhere", {"TZ": "Nowhere/None"}),
    Machine("a CPU quota", shell=OWN_GROUP, skip="" if ROOT and CGROUP.is_dir() else "needs root and cgroup v1"),
)  # fmt: skip
QUICK = ("HOME is read-only", "TMPDIR is missing", "64 open files", "LANG=C", "modules beside")


def cells(plan: Plan) -> list[Cell]:
    """Return the cells of every machine, and of streams and folders that not every command needs."""
    if plan.quick:
        return [cell(m, "predict", predict(plan), predicted(plan)) for m in MACHINES if m.name in QUICK]
    return [*on_machines(plan), *training(plan), *streams(plan), *folders(plan)]


def cell(machine: Machine, what: str, command: tuple[str, ...], expected: Expected, **fields: Any) -> Cell:
    return Cell(f"{machine.name}: {what}", (command,), expected, prepare, machine.env, machine.shell, skip=machine.skip,
                **fields)  # fmt: skip


def prepare(work: Path) -> None:
    """Write images of two classes, and settings of a short training."""
    write_photos(work / DATA, [f"{label}/{label.replace('e', 'ä')}{n}.jpg" for label in LABELS for n in range(COUNT)])
    (work / "config.toml").write_text(CONFIG)


def predict(plan: Plan) -> tuple[str, ...]:
    return ("predict", IMAGE, "--run", str(plan.fixture / RUN), "--jobs", "1", "--json")


def predict_folder(plan: Plan) -> tuple[str, ...]:
    return ("predict", DATA, "--run", str(plan.fixture / RUN), "--jobs", "2", "--out", "out.jsonl")


TRAIN = ("train", "--data", DATA, "--config", "config.toml", "--out", "run", "--json")


def predicted(plan: Plan) -> Expected:
    return works(partial(is_predicted, plan.fixture / RUN))


def is_predicted(run: Path, outcome: Outcome, work: Path) -> str | None:
    """Compare the probabilities on standard output with those of this process."""
    row = json.loads(outcome.stdout)
    difference = np.abs(np.array(list(row["probabilities"].values())) - _probabilities(run, work / IMAGE)).max()
    return (
        None
        if difference < 1e-6 and os.fsencode(row["image"]) == os.fsencode(IMAGE)
        else f"{row['image']} differs by {difference}"
    )


def _probabilities(run: Path, image: Path) -> Any:
    from skinedge.core.image_file import load_image
    from skinedge.core.preprocess import prepare
    from skinedge.run.run_directory import Bundle
    from skinedge_bench.loaded_model import open_listed

    model = open_listed(Bundle.open(run))
    return model.run(prepare(load_image(image), model.size)[None]).probabilities[0]


def is_written(outcome: Outcome, work: Path) -> str | None:
    """Look for a prediction of every image in the file, and for nothing else in it."""
    rows = [json.loads(line) for line in (work / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    complete = len(rows) == len(LABELS) * COUNT and all("probabilities" in row for row in rows)
    return None if complete else f"out.jsonl has {len(rows)} lines"


def is_checked(outcome: Outcome, work: Path) -> str | None:
    report = json.loads(outcome.stdout)
    expected = dict.fromkeys(LABELS, COUNT)
    return None if report["passed"] and report["counts"] == expected else f"counts {report['counts']}"


def is_trained(outcome: Outcome, work: Path) -> str | None:
    """Open the run and check the hash of every file."""
    from skinedge.run.run_directory import Bundle

    bundle = Bundle.open(work / "run")
    for name in bundle.entries():
        bundle.file(name)
    return None if bundle.manifest.labels == LABELS else f"labels {bundle.manifest.labels}"


def has_page(outcome: Outcome, work: Path) -> str | None:
    return None if (work / "page.html").read_text(encoding="utf-8").rstrip().endswith("</html>") else "cut off"


def on_machines(plan: Plan) -> Iterator[Cell]:
    """Yield commands that work on every machine."""
    commands: Mapping[str, tuple[tuple[str, ...], Invariant]] = {
        "predict in two processes": (predict_folder(plan), is_written),
        "data check": (("data", "check", DATA, "--json"), is_checked),
        "data check, table": (("data", "check", DATA), nothing_wrong),
        "doctor": (("doctor",), nothing_wrong),
        "report": (("report", str(plan.fixture / RUN), "--out", "page.html"), has_page),
    }
    quota = MACHINES[-1]
    for machine in MACHINES:
        yield cell(machine, "predict", predict(plan), predicted(plan))
        for what, (command, invariant) in commands.items():
            too_many = machine is quota and "--jobs" in command
            yield cell(machine, what, command, one_line("must be between 1 and 1") if too_many else works(invariant))
    bench = ("bench", str(plan.fixture / RUN), "--protocol", "quick", "--threads", "2")
    yield cell(quota, "bench with two threads", bench, one_line("must be between 1 and 1"))


def training(plan: Plan) -> Iterator[Cell]:
    """Yield trainings; variables of a distributed training that was never started must stop them."""
    for machine in MACHINES:
        if machine.name.startswith("PYTHONOPTIMIZE"):  # peft needs docstrings, and torch would be compiled each time
            continue
        stray = machine.name.startswith("stray")
        expected = one_line("unset WORLD_SIZE and RANK") if stray else works(is_trained)
        if machine.name == "LANG=C":  # in which the file names are no text
            expected = works_or_one_line(is_trained, "names")
        yield cell(machine, "train", TRAIN, expected)


def streams(plan: Plan) -> Iterator[Cell]:
    """Yield closed and full streams: what cannot be printed is an error, and never gets into a file."""
    for name, shell in (
        ("closed standard output", f"{START} >&-"),
        ("full disk behind standard output", f"{START} >/dev/full"),
    ):
        machine = Machine(name, shell=shell)
        for what, command in (
            ("predict", predict(plan)),
            ("data check", ("data", "check", DATA)),
            ("help", ("--help",)),
        ):
            yield cell(machine, what, command, one_line("output"))
        yield cell(machine, "predict to a file", predict_folder(plan), works(is_written))
    for shell in (f"{START} >&-", f"{START} <&- >&- 2>&-"):
        machine = Machine("closed streams" if "<" in shell else "closed standard output", shell=shell)
        words = () if "2>&-" in shell else ("output",)
        yield cell(machine, "train", TRAIN[:-1], works_or_one_line(is_trained, *words), writes=("run",))
        if "<" in shell:
            yield cell(machine, "predict to a file", predict_folder(plan), works(is_written))


def folders(plan: Plan) -> Iterator[Cell]:
    """Yield working folders that are gone or read-only, and `python -m` beside modules."""
    gone = Machine("deleted working folder", shell=f"mkdir gone && cd gone && rmdir ../gone && {START}")
    absolute = tuple(str(plan.fixture / fixture.IMAGE) if word == IMAGE else word for word in predict(plan))
    yield cell(gone, "predict, absolute paths", absolute, works_or_one_line(nothing_wrong))
    yield cell(gone, "predict", predict(plan)[:-1], one_line(IMAGE))
    for what, command in (("data check", ("data", "check", DATA)), ("train", TRAIN), ("doctor", ("doctor",)),
                          ("no run named", ("predict", IMAGE))):  # fmt: skip
        yield cell(gone, what, command, one_line())
    locked = Machine("read-only working folder", shell=f"cd /sys && {START}")
    for what, command in (("data synth", ("data", "synth", "out", "--count", "70", "--size", "32")),
                          ("report", ("report", str(plan.fixture / RUN), "--out", "page.html"))):  # fmt: skip
        yield cell(locked, what, command, one_line("/sys"))
    script = f"for m in {MODULES.replace(' skinedge', '')}; do echo 'import executed_by_mistake' > $m.py; done; shift; "
    module = Machine("python -m, modules beside", shell=f'{script} exec {sys.executable} -m skinedge "$@"')
    yield cell(module, "predict", predict(plan), predicted(plan))
