"""`skinedge ship`: pack a finished run into a small, self-describing folder for distribution.

Files that can be rebuilt from adapter, base weights and calibration are left out, and so are images and local paths.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skinedge import __version__
from skinedge.core.errors import BundleError, GateError
from skinedge.core.files import SOME_ROOM, check_writable, disk_error, path_inside, sha256
from skinedge.core.json_io import digest, to_text
from skinedge.data.dataset import read_split
from skinedge.data.plan import PLAN
from skinedge.run import model_card
from skinedge.run.class_order import check_run, taxonomy_warnings
from skinedge.run.embedded_metadata import describe
from skinedge.run.file_card import card_name, read_description
from skinedge.run.golden import outputs_name
from skinedge.run.manifest import MODEL, SHIP, FileEntry, Manifest, Stage, now
from skinedge.run.redaction import map_strings, without_place, without_places
from skinedge.run.report_schemas import read_latency, read_parity, read_report
from skinedge.run.run_directory import Bundle
from skinedge.run.signing import open_secret_key, sign
from skinedge.stats.verdicts import counted_gates
from skinedge.system import folder_swap
from skinedge.system.progress import note
from skinedge.training.merge import ADAPTER

PARITY, LATENCY, THRESHOLDS = "reports/parity.json", "reports/latency.json", "reports/thresholds.json"
EVALUATION = "reports/evaluation.json"
REPORTS = ("reports/training.json", THRESHOLDS, PARITY, LATENCY)
CARD, LICENSE = "MODEL_CARD.md", "LICENSE"
PRECISIONS = ("int8", "int8-mixed")


@dataclass(frozen=True)
class Evaluation:
    """Results of `skinedge evaluate --out`. document: evaluation.json; page: its tables as Markdown."""

    document: Mapping[str, Any]
    page: str


def ship(
    bundle: Bundle, to: Path, evaluation: Evaluation | None = None, *, force: bool = False, key: Path | None = None
) -> Bundle:
    """Pack a run that was verified on its test images into the new folder `to`; return the packed model.

    Args:
        evaluation: of one of its int8 files, on the test split, for the model card.
        force: replace a packed model at `to`.
        key: minisign secret key that signs the manifest.
    Raises: BundleError when something is missing, changed, from another run or contains a local path; GateError when
        the int8 files did not pass `verify`. Nothing is left at `to` then.
    """
    to = to.resolve()  # '.' has no name for a temporary sibling
    check_target(to, force)
    secret_key = None if key is None else open_secret_key(key)
    files = shippable_files(bundle)
    check_run(bundle)
    for warning in taxonomy_warnings(bundle.manifest):
        note(f"warning: {warning}")
    check_evaluation(evaluation, bundle, files)
    check_writable(to.parent, sum(entry.size for entry in files) + SOME_ROOM)
    try:
        with folder_swap.new_folder(to, replace=force) as folder:
            manifest = pack(bundle, folder, files, evaluation)
            Bundle.create(folder, manifest)
            if secret_key is not None:
                sign(folder, secret_key)
            check_no_local_paths(folder, bundle)
    except OSError as error:
        raise disk_error(error, to) from None
    return Bundle.open(to)


def check_target(to: Path, force: bool) -> None:
    """Check that `to` can be written. Raises: BundleError when it exists; with force, unless it is a packed model."""
    folder_swap.recover(to)
    if not to.exists() or (to.is_dir() and not any(to.iterdir())):
        return
    if not force:
        raise BundleError("output exists", where=str(to), todo="Choose another --to. Or add --force.")
    if not Bundle.open(to).manifest.shipped:
        raise BundleError("not a packed model; --force replaces packed models only", where=str(to))


def shippable_files(bundle: Bundle) -> list[FileEntry]:
    """Return the int8 files, after checking that each fits the merged network and the manifest, and is verified.

    Raises: BundleError, GateError.
    """
    weights = str(bundle.manifest.training["config"]["weights"])
    if weights not in ("auto", "random"):
        raise BundleError(
            f"the base weights are the local file '{weights}'",
            where=str(bundle.root),
            todo="Train from public base weights: only then can others rebuild the model from its adapter.",
        )
    files = [entry for entry in bundle.model_files() if entry.info.get("precision") in PRECISIONS]
    if not files:
        todo = "Make one with: skinedge export --int8"
        raise BundleError("this run has no int8 file", where=str(bundle.root), todo=todo)
    again = "Export it again: skinedge export RUN --int8 --force, then skinedge verify RUN."
    for entry in files:
        if entry.made_from.get("model") != bundle.model_sha256:  # `same_as` is not packed
            raise BundleError("made from another merged model than the run has now", where=entry.path, todo=again)
        own = read_description(bundle.file(entry.path), entry.sha256)
        if own != describe(bundle.manifest, str(entry.info["precision"]), own.input):
            raise BundleError("the file's description does not match the manifest", where=entry.path, todo=again)
    check_verified(bundle, files)
    return files


def check_verified(bundle: Bundle, files: Sequence[FileEntry]) -> None:
    """Check that the parity report passed exactly these files and thresholds on the test images.

    Raises: GateError otherwise.
    """
    todo = "Run: skinedge verify RUN --data DIR"
    if not bundle.has(PARITY):
        raise GateError("the run was not verified", where=str(bundle.root), todo=todo)
    results = read_parity(bundle.file(PARITY)).files
    for entry in files:
        result = results.get(entry.path)
        if result is None or result.sha256 != entry.sha256 or result.metrics is None:
            raise GateError("the file was not verified on the test images", where=entry.path, todo=todo)
        if result.worst == "fail" or not result.passed:
            counts = counted_gates((gate.verdict for gate in result.gates), "of verify")
            raise GateError(f"verify refused the file ({counts})", where=entry.path, todo=todo)
    if bundle.entries()[PARITY].made_from.get("thresholds") != digest(bundle.manifest.thresholds):
        raise GateError("verify used other thresholds than the run has now", where=str(bundle.root), todo=todo)


def check_evaluation(evaluation: Evaluation | None, bundle: Bundle, files: Sequence[FileEntry]) -> None:
    """Check that an evaluation is of one of these files, at its threshold, on the run's own test images.

    Raises: BundleError otherwise.
    """
    if evaluation is None:
        return
    document, again = evaluation.document, "Evaluate again: skinedge evaluate RUN --split test --out DIR"
    file = next((entry.path for entry in files if entry.sha256 == document.get("model_sha256")), None)
    if file is None:
        what = "the evaluation is of another file than this run's int8 files"
        raise BundleError(what, where=str(document.get("file")), todo=again)
    evaluated = {label: row["support"] for label, row in document["per_class"].items() if row["support"]}
    expected = Counter(sample.label for sample in read_split(bundle.file("split.csv")) if sample.split == "test")
    if document["split"] != "test" or document["contaminated"] != 0 or evaluated != dict(expected):
        what = "the evaluation is not of the run's own test split, which the model card reports"
        raise BundleError(what, where=file, todo=again)
    if document["malignant"]["threshold"] != bundle.manifest.threshold(file):
        raise BundleError("the evaluation is at another threshold than the run has now", where=file, todo=again)


def pack(bundle: Bundle, to: Path, files: Sequence[FileEntry], evaluation: Evaluation | None) -> Manifest:
    """Write all files of the packed model except the manifest; return the manifest."""
    names = [*ADAPTER, "split.csv", "golden.npz", "reference.npz", *(entry.path for entry in files)]
    names += [PLAN] if bundle.has(PLAN) else []
    beside = [name(entry.path) for entry in files for name in (card_name, outputs_name)]
    names += [name for name in beside if bundle.has(name)]
    names += [name for name in REPORTS if bundle.has(name) and is_current_report(bundle, name, files)]
    for name in names:
        content = redacted_report(bundle, name) if name in REPORTS else bundle.file(name).read_bytes()
        write(path_inside(to, name), content)
    manifest = packed_manifest(bundle, to, set(names))
    latency = read_latency(to / LATENCY) if LATENCY in names else None
    facts = model_card.Facts(manifest, tuple(files), read_parity(to / PARITY), latency)
    texts = {
        CARD: model_card.card(facts, "" if evaluation is None else evaluation.page),
        LICENSE: model_card.license_text(manifest),
    }
    if evaluation is not None:
        texts[EVALUATION] = to_text(evaluation.document)
    for name, text in texts.items():
        write(to / name, text.encode())
    made_from = {"manifest": sha256(bundle.root / "manifest.json")}
    made_by = f"skinedge {__version__}"
    stage = Stage(now(), tuple(updated_entry(to, FileEntry(name, "", 0, made_by, made_from)) for name in texts))
    return replace(manifest, stages={**manifest.stages, SHIP: stage})


def is_current_report(bundle: Bundle, name: str, files: Sequence[FileEntry]) -> bool:
    """Return True if a report was made from the present files; print a note otherwise."""
    made_from = bundle.entries()[name].made_from
    if name not in (THRESHOLDS, LATENCY) or all(made_from.get(entry.path) == entry.sha256 for entry in files):
        return True
    note(f"leaving out {name}: made from other files than the run has now")
    return False


def packed_manifest(bundle: Bundle, to: Path, names: set[str]) -> Manifest:
    """Build the manifest of a packed model, without data root and without references to omitted files.

    Args:
        to: the folder of the packed files.
        names: the packed files.
    """
    manifest = bundle.manifest
    thresholds = {name: value for name, value in manifest.thresholds.items() if name in {*names, "default"}}
    omitted = set(bundle.entries()) - names - {MODEL}

    def packed_entry(entry: FileEntry) -> FileEntry:
        made_from = {name: hash_ for name, hash_ in entry.made_from.items() if name not in omitted}
        if entry.path in ("golden.npz", "reference.npz"):
            made_from["model"] = str(bundle.model_sha256)  # keeps the hash of the omitted merged network
        if entry.path == PARITY:
            made_from["thresholds"] = digest(thresholds)
        return updated_entry(to, replace(entry, made_from=made_from))

    stages = {
        name: Stage(stage.finished_at, tuple(packed_entry(entry) for entry in stage.files if entry.path in names))
        for name, stage in manifest.stages.items()
    }
    models = [name for name in names if name.startswith("model.")]
    default = manifest.default_file if manifest.default_file in names else min(models)
    return replace(
        manifest,
        data_root="",
        thresholds=thresholds,
        default_file=default,
        training=without_places(manifest.training),
        stages={name: stage for name, stage in stages.items() if stage.files},
    )


def redacted_report(bundle: Bundle, name: str) -> bytes:
    """Return a report without the paths of the image folder."""
    report = read_report(bundle.file(name))
    if name == PARITY:
        report["images"] = without_place(report["images"])
    root = bundle.manifest.data_root
    return to_text(map_strings(report, lambda text: text.replace(root, "DATA") if root else text)).encode()


def check_no_local_paths(folder: Path, bundle: Bundle) -> None:
    """Check that no packed file contains a path of this machine. Raises: BundleError."""
    local = [Path(bundle.manifest.data_root or "/"), bundle.root.resolve(), Path.cwd(), folder.resolve()]
    with contextlib.suppress(RuntimeError):  # a user without a home folder
        local.append(Path.home())
    patterns = {os.fsencode(path) for path in local if len(path.parts) > 1}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        matches = [os.fsdecode(text) for text in patterns if re.search(re.escape(text) + rb"(?![\w-])", content)]
        if matches:
            raise BundleError(f"would contain the local path {matches[0]}", where=path.relative_to(folder).as_posix())


def updated_entry(root: Path, entry: FileEntry) -> FileEntry:
    """Return the entry with the hash and size of its file in `root`."""
    path = path_inside(root, entry.path)
    return replace(entry, sha256=sha256(path), size=path.stat().st_size)


def write(path: Path, content: bytes) -> None:
    """Write a file and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
