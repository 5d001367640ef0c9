"""Documents of a run: manifests, cards and reports, with matching or outdated hashes."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from random import Random

from experiments.fuzz import trees
from experiments.fuzz.case import Base, Case, Outcome
from experiments.fuzz.fixture import IMAGE, RUN
from experiments.fuzz.mutate import mutated

MANIFEST = f"{RUN}/manifest.json"
PREDICT = ("predict", IMAGE, "--run", RUN, "--jobs", "1", "--json")
REPORT = ("report", RUN, "--out", "out/report.html")
VERIFY = ("verify", RUN, "--data", "data/ham")
SHIP = ("ship", RUN, "--to", "out/shipped")
WEB = ("web", "--run", RUN, "--out", "out/site")
ANDROID = ("android", "--model", RUN, "--to", "out/assets")
COMPARE = ("compare", RUN, RUN)
PAGE = Path(__file__).resolve().parents[2] / "skinedge_bench/web/page/vendor"  # libraries of `web`, if installed
CHEAP = (PREDICT,) * 9 + (REPORT, ANDROID, ANDROID)
# Fields of a manifest that decide how the model's outputs are interpreted.
MEANING = ("labels", "taxonomy", "melanoma", "class_prior", "preprocess", "thresholds", "default_file", "synthetic")


def cheap(base: Base) -> tuple[tuple[str, ...], ...]:
    """Return the commands that take hundredths of a second; some need a verified and benchmarked run."""
    return (*CHEAP, SHIP, COMPARE) if base.has("shipped") else CHEAP


def some(rng: Random, base: Base) -> tuple[str, ...]:
    """Choose a cheap command; rarely `web`, which copies megabytes."""
    return WEB if rng.random() < 0.02 and PAGE.is_dir() else rng.choice(cheap(base))


def manifest(rng: Random, base: Base) -> Case:
    """Mutate the values, keys, names or nesting of a manifest."""
    argv = VERIFY if rng.random() < 0.04 and base.has("shipped") else some(rng, base)
    if rng.random() < 0.25:
        content = mutated(rng, base.read(MANIFEST))
    else:
        content = trees.to_json(rng, trees.mutated(rng, base.json(MANIFEST)))
    judge = partial(same_meaning, base) if argv == VERIFY else None
    writes = ("out", RUN) if argv == VERIFY else ("out",)
    return Case("manifest", argv, {MANIFEST: content}, writes=writes, judge=judge)


def paths(rng: Random, base: Base) -> Case:
    """Give the manifest's files names that lead outside, for commands that write or remove files."""
    raw = base.json(MANIFEST)
    stage = rng.choice(list(raw["stages"].values()))
    entry = rng.choice(stage["files"])
    name = rng.choice(trees.NAMES)
    operation = rng.randrange(4)
    if operation == 0:
        entry["path"] = name
    elif operation == 1:
        stage["files"].append({**entry, "path": name})
    elif operation == 2:
        raw["default_file"] = name
    else:
        raw[rng.choice(("data_root", "id", "name"))] = name
    if rng.random() < 0.3:
        entry["sha256"], entry["size"] = hashlib.sha256(b"must stay as it is\n").hexdigest(), 19
    export = ("export", RUN, "--force", "--format", "onnx", "--precision", "fp32")
    argv = (
        export if operation < 2 and rng.random() < 0.03 else rng.choice((some(rng, base), PREDICT, REPORT[:2], ANDROID))
    )
    writes = ("out", RUN) if argv == export or argv == REPORT[:2] else ("out",)
    content = trees.to_json(rng, raw)
    return Case("manifest (names)", argv, {MANIFEST: content}, writes=writes, torch=argv == export)


def run_file(rng: Random, base: Base) -> Case:
    """Mutate any file that the manifest lists, without updating its hash."""
    name = rng.choice([name for name in base.files(RUN) if name != MANIFEST and not name.endswith(".lock")])
    argv = VERIFY if rng.random() < 0.01 and base.has("shipped") else some(rng, base)
    writes = ("out", RUN) if argv == VERIFY else ("out",)
    return Case("run file", argv, {name: mutated(rng, base.read(name))}, writes=writes, guarded=(name,))


def card(rng: Random, base: Base) -> Case:
    """Mutate a model file's card: next to a standalone file, or in the run with a matching hash."""
    if rng.random() < 0.1:
        name = "alone/model.int8.tflite.skinedge.json"
        argv = ("predict", IMAGE, "--run", "alone/model.int8.tflite", "--jobs", "1")
        return Case("card", argv, {name: _document(rng, base, name)})
    names = [name for name in base.files(RUN) if name.endswith(".skinedge.json")]
    name = rng.choice(names)
    return Case(
        "card", rng.choice((some(rng, base), ANDROID, ANDROID, SHIP)), refitted(base, name, _document(rng, base, name))
    )


def report(rng: Random, base: Base) -> Case:
    """Mutate a report, with a matching hash in the manifest, or an evaluation."""
    if rng.random() < 0.2 and base.has("evaluation/evaluation.json"):
        name = "evaluation/evaluation.json"
        argv = rng.choice((REPORT, SHIP))
        return Case("report", (*argv, "--evaluation", "evaluation"), {name: _document(rng, base, name)})
    name = rng.choice([name for name in base.files(f"{RUN}/reports") if name.endswith(".json")])
    argv = rng.choice((REPORT, REPORT, REPORT, SHIP, COMPARE))
    if "latency" in name and rng.random() < 0.3:
        return Case("report", ("compare", RUN, "out/b.json"), {"out/b.json": _document(rng, base, name)})
    return Case("report", argv, refitted(base, name, _document(rng, base, name)))


def refitted(base: Base, name: str, content: bytes) -> dict[str, bytes]:
    """Return a changed file of the run and the manifest with its new hash and size."""
    raw = base.json(MANIFEST)
    path = str(Path(name).relative_to(RUN))
    for stage in raw["stages"].values():
        for entry in stage["files"]:
            if entry["path"] == path:
                entry["sha256"], entry["size"] = hashlib.sha256(content).hexdigest(), len(content)
    return {name: content, MANIFEST: json.dumps(raw, indent=2).encode()}


def same_meaning(base: Base, _outcome: Outcome, _plain: Outcome, work: Path) -> str | None:
    """Return how an accepted manifest changes the interpretation of the model's outputs, None if it does not."""
    accepted, original = json.loads((work / MANIFEST).read_bytes()), base.json(MANIFEST)
    changed = [key for key in MEANING if json.dumps(accepted.get(key)) != json.dumps(original.get(key))]
    return f"accepted with other {', '.join(changed)}" if changed else None


def _document(rng: Random, base: Base, name: str) -> bytes:
    if rng.random() < 0.2:
        return mutated(rng, base.read(name))
    return trees.to_json(rng, trees.mutated(rng, base.json(name)))
