"""Tables of labels (CSV), settings (TOML) and result lines (JSONL)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tomllib
from pathlib import Path
from random import Random

from experiments.fuzz import trees
from experiments.fuzz.case import Base, Case, Outcome
from experiments.fuzz.documents import REPORT, VERIFY, refitted
from experiments.fuzz.fixture import RUN
from experiments.fuzz.mutate import NAMES, mutated

RESULTS = "out/results.jsonl"
RESUME = ("predict", "data/few", "--run", RUN, "--jobs", "1", "--out", RESULTS, "--resume")
CELLS = (
    "",
    '"',
    '""',
    "=1+1",
    "nan",
    "-1",
    "1e999",
    "x" * 200_000,
    "\0",
    "a,b",
    "a\nb",
    "ISIC_0000001",
    "0.0",
    "1.0",
    "9" * 5000,
)


def table(rng: Random, base: Base) -> Case:
    """Mutate a table of labels in its folder of images, or a run's split.csv with a matching hash."""
    name = rng.choice(
        ("data/ham/HAM10000_metadata.csv", "data/isic/truth.csv", "data/isic/truth.csv", f"{RUN}/split.csv")
    )
    content = _table(rng, base.read(name))
    if name.startswith(RUN):
        argv = rng.choice((REPORT, ("evaluate", RUN, "--data", "data/few", "--jobs", "1"), VERIFY))
        argv = argv if rng.random() < 0.2 else REPORT
        return Case("table", argv, refitted(base, name, content), writes=("out", RUN))
    folder = str(Path(name).parent)
    if rng.random() < 0.05:
        argv = (
            "evaluate",
            RUN,
            "--data",
            folder,
            "--split",
            "all",
            "--allow-train",
            "--jobs",
            "1",
            "--out",
            "out/evaluation",
        )
        return Case("table", argv, {name: content})
    return Case("table", ("data", "info", folder), {name: content})


def plan(rng: Random, base: Base) -> Case:
    """Mutate a cleaning plan, and sometimes the options that choose the table and its columns."""
    rows = [["action", "image", "label", "reason", "same_as", "sha256"]]
    for number in range(4):
        image = f"ISIC_{number:07}.jpg"
        digest = hashlib.sha256(base.read(f"data/isic/{image}")).hexdigest()
        rows.append([rng.choice(("keep", "leave out")), image, "NV", "x", "", digest])
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    options = ("--table", rng.choice(("truth.csv", "data/isic/truth.csv", *NAMES)), "--columns", "image=image")
    argv = ("data", "info", "data/isic", "--plan", "out/plan.csv", *(options if rng.random() < 0.2 else ()))
    return Case("plan", argv, {"out/plan.csv": _table(rng, stream.getvalue().encode())})


def _table(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return mutated(rng, data)
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(rng.choice((1, 1, 2, 5))):
        row = rng.choice((rows[0], rng.choice(rows), rng.choice(rows)))
        column = rng.randrange(len(row)) if row else 0
        operation = rng.randrange(7)
        if operation < 3 and row:
            row[column] = rng.choice((*CELLS, *NAMES))
        elif operation == 3 and row:
            del row[column]
        elif operation == 4:
            rows.append(list(row))
        elif operation == 5:
            row.extend(rng.choice((["x"], ["x"] * 1000)))
        else:
            other = rng.choice(rows)
            row[:], other[:] = list(other), list(row)
    stream = io.StringIO()
    quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    csv.writer(
        stream, quoting=quoting, delimiter=rng.choice(",,,,;\t"), lineterminator=rng.choice(("\n", "\r\n", "\r"))
    ).writerows(rows)
    return (rng.choice(("", "", "", "\ufeff")) + stream.getvalue()).encode(
        rng.choice(("utf-8", "utf-8", "utf-16")), "surrogatepass"
    )


def labels(rng: Random, base: Base) -> Case:
    """Mutate the labels.toml of a MedMNIST archive."""
    name = "data/med/labels.toml"
    content = _toml(rng, base.read(name))
    return Case("TOML (labels)", ("data", "info", "data/med"), {name: content})


def config(rng: Random, base: Base) -> Case:
    """Mutate a config file of `train`, whose image folder is empty, so that nothing is trained."""
    argv = ("train", "--data", "out", "--out", "out/run", "--config", "out/c.toml")
    return Case("TOML (config)", argv, {"out/c.toml": _toml(rng, base.read("config.toml"))}, torch=True)


def _toml(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return mutated(rng, data)
    return trees.to_toml(trees.mutated(rng, tomllib.loads(data.decode()), times=2))


def lines(rng: Random, base: Base) -> Case:
    """Mutate result lines to resume from; the final file must be that of an uninterrupted command."""
    data = base.read("results.jsonl")
    rows = data.splitlines(keepends=True)
    if rng.random() < 0.4:
        content = mutated(rng, data)
    elif rng.random() < 0.3:
        rng.shuffle(rows)
        content = b"".join(rows[: rng.randrange(len(rows) + 1)])
    else:
        index = rng.randrange(len(rows))
        changed = trees.mutated(rng, json.loads(rows[index]), times=1)
        rows[index] = trees.to_json(rng, changed) + rng.choice((b"\n", b"\n", b"\r\n", b""))
        content = b"".join(rows[: rng.choice((index + 1, len(rows)))])
    files = {RESULTS: content}
    return Case("result lines", RESUME, files, judge=lambda outcome, plain, work: _differing_line(data, outcome, work))


def _differing_line(data: bytes, _outcome: Outcome, work: Path) -> str | None:
    written = (work / RESULTS).read_bytes()
    if written == data:
        return None
    differing = [new for old, new in zip(data.splitlines(), written.splitlines(), strict=False) if old != new]
    return f"kept an altered line: {differing[0][:300]!r}" if differing else "different number of lines"
