"""`skinedge ship`: a finished run -> a small folder that says what it is and that travels.

What adapter, base weights and calibration give again is left out; no path of this machine stays in it, and no image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skinedge import __version__
from skinedge.core.errors import BundleError, GateError
from skinedge.core.files import SOME_ROOM, check_writable, disk_error, path_inside, sha256
from skinedge.core.json_io import digest, read_json, to_text
from skinedge.data.dataset import read_split
from skinedge.run import model_card
from skinedge.run.class_order import check_run, taxonomy_warnings
from skinedge.run.embedded_metadata import describe
from skinedge.run.file_card import card_name, own_account
from skinedge.run.manifest import MODEL, SHIP, FileEntry, Manifest, Stage, now
from skinedge.run.redaction import strings, without_place, without_places
from skinedge.run.report_schemas import read_latency, read_parity
from skinedge.run.run_directory import Bundle
from skinedge.run.signing import open_secret_key, sign
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
    """What `skinedge evaluate --out` wrote. document: evaluation.json; page: its tables as Markdown."""

    document: Mapping[str, Any]
    page: str


def ship(
    bundle: Bundle, to: Path, evaluation: Evaluation | None = None, *, force: bool = False, key: Path | None = None
) -> Bundle:
    """Pack a run that was verified on its test images into the new folder `to`; returns it, open.

    evaluation: of one of its int8 files, on the test split, for the model card; force: replace a packed model; key: a
        secret key of minisign's that signs the manifest.
    Raises: BundleError when something is missing, changed, not this run's or names a place on this machine;
        GateError when the int8 files did not pass `verify`. Nothing is left at `to` then.
    """
    to = to.resolve()  # '.' has no name that another could stand beside
    check_target(to, force)
    secret_key = None if key is None else open_secret_key(key)
    files = shippable(bundle)
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
            refuse_places(folder, bundle)
    except OSError as error:
        raise disk_error(error, to) from None
    return Bundle.open(to)


def check_target(to: Path, force: bool) -> None:
    """Raises: BundleError when `to` is there; with force, only when it is no packed model."""
    folder_swap.recover(to)
    if not to.exists() or (to.is_dir() and not any(to.iterdir())):
        return
    if not force:
        raise BundleError("output exists", where=str(to), todo="Choose another --to. Or add --force.")
    if not Bundle.open(to).manifest.shipped:
        raise BundleError("this is no packed model; --force replaces those only", where=str(to))


def shippable(bundle: Bundle) -> list[FileEntry]:
    """The int8 files, each made from the merged network of the run, with its account in it, and verified.

    Raises: BundleError, GateError.
    """
    weights = str(bundle.manifest.training["config"]["weights"])
    if weights not in ("auto", "random"):
        raise BundleError(
            f"trained over the weights file '{weights}', which nobody else has",
            where=str(bundle.root),
            todo="Only what starts from public base weights can be rebuilt from its adapter.",
        )
    files = [entry for entry in bundle.model_files() if entry.info.get("precision") in PRECISIONS]
    if not files:
        raise BundleError(
            "this run has no int8 file", where=str(bundle.root), todo="Make them with: skinedge export --int8"
        )
    again = "Make it again: skinedge export RUN --int8 --force, then skinedge verify RUN."
    for entry in files:
        if entry.made_from.get("model") != bundle.model_sha256:  # `same_as` does not travel
            raise BundleError("made from another merged model than the run has now", where=entry.path, todo=again)
        said = own_account(bundle.file(entry.path))
        if said != describe(bundle.manifest, str(entry.info["precision"]), said.input):
            raise BundleError(
                "what the file says of itself is not what the manifest says", where=entry.path, todo=again
            )
    check_verified(bundle, files)
    return files


def check_verified(bundle: Bundle, files: Sequence[FileEntry]) -> None:
    """Raises: GateError unless the parity report passed these very files, and thresholds, on the test images."""
    todo = "Run: skinedge verify RUN --data DIR"
    if not bundle.has(PARITY):
        raise GateError("the run was not verified", where=str(bundle.root), todo=todo)
    judged = read_parity(bundle.file(PARITY)).files
    for entry in files:
        said = judged.get(entry.path)
        if said is None or said.sha256 != entry.sha256 or said.metrics is None:
            raise GateError("the file was not verified on the test images", where=entry.path, todo=todo)
        if not said.passed:
            raise GateError("the file failed a gate of verify", where=entry.path, todo=todo)
    if bundle.entries()[PARITY].made_from.get("thresholds") != digest(bundle.manifest.thresholds):
        raise GateError("verify judged other thresholds than the run has now", where=str(bundle.root), todo=todo)


def check_evaluation(evaluation: Evaluation | None, bundle: Bundle, files: Sequence[FileEntry]) -> None:
    """Raises: BundleError when an evaluation is of another file or threshold, or not of the run's own test images."""
    if evaluation is None:
        return
    said, again = evaluation.document, "Make it again: skinedge evaluate RUN --split test --out DIR"
    judged = next((entry.path for entry in files if entry.sha256 == said.get("model_sha256")), None)
    if judged is None:
        what = "the evaluation is of another file than this run's int8 files"
        raise BundleError(what, where=str(said.get("file")), todo=again)
    counted = {label: row["support"] for label, row in said["per_class"].items() if row["support"]}
    own = Counter(sample.label for sample in read_split(bundle.file("split.csv")) if sample.split == "test")
    if said["split"] != "test" or said["contaminated"] != 0 or counted != dict(own):
        what = "the evaluation is not of the run's own test split, which is all that a model card tells of"
        raise BundleError(what, where=judged, todo=again)
    if said["malignant"]["threshold"] != bundle.manifest.threshold(judged):
        raise BundleError("the evaluation is at another threshold than the run has now", where=judged, todo=again)


def pack(bundle: Bundle, to: Path, files: Sequence[FileEntry], evaluation: Evaluation | None) -> Manifest:
    """Write every file but the manifest, which is returned."""
    names = [*ADAPTER, "split.csv", "golden.npz", "reference.npz", *(entry.path for entry in files)]
    names += [card_name(entry.path) for entry in files if bundle.has(card_name(entry.path))]
    names += [name for name in REPORTS if bundle.has(name) and of_these(bundle, name, files)]
    for name in names:
        write(path_inside(to, name), neutral(bundle, name) if name in REPORTS else bundle.file(name).read_bytes())
    manifest = packed(bundle, to, set(names))
    measured = read_latency(to / LATENCY) if LATENCY in names else None
    facts = model_card.Facts(manifest, tuple(files), read_parity(to / PARITY), measured)
    extra = {
        CARD: model_card.card(facts, "" if evaluation is None else evaluation.page),
        LICENSE: model_card.license_text(manifest),
    }
    if evaluation is not None:
        extra[EVALUATION] = to_text(evaluation.document)
    for name, text in extra.items():
        write(to / name, text.encode())
    made_from = {"manifest": sha256(bundle.root / "manifest.json")}
    stage = Stage(now(), tuple(listed(to, FileEntry(n, "", 0, f"skinedge {__version__}", made_from)) for n in extra))
    return replace(manifest, stages={**manifest.stages, SHIP: stage})


def of_these(bundle: Bundle, name: str, files: Sequence[FileEntry]) -> bool:
    """Whether a report is of the files as they are now; one of earlier files is left out, which is said on screen."""
    made_from = bundle.entries()[name].made_from
    if name not in (THRESHOLDS, LATENCY) or all(made_from.get(entry.path) == entry.sha256 for entry in files):
        return True
    note(f"{name} is of other files than the run has now: left out")
    return False


def packed(bundle: Bundle, to: Path, kept: set[str]) -> Manifest:
    """The manifest of what was kept: no data root, no threshold or origin of a file that was left out."""
    manifest = bundle.manifest
    thresholds = {name: value for name, value in manifest.thresholds.items() if name in {*kept, "default"}}
    gone = set(bundle.entries()) - kept - {MODEL}

    def origin(entry: FileEntry) -> FileEntry:
        made_from = {name: hash_ for name, hash_ in entry.made_from.items() if name not in gone}
        if entry.path in ("golden.npz", "reference.npz"):
            made_from["model"] = str(bundle.model_sha256)  # the merged network stays known by its hash
        if entry.path == PARITY:
            made_from["thresholds"] = digest(thresholds)
        return listed(to, replace(entry, made_from=made_from))

    stages = {
        name: Stage(stage.finished_at, tuple(origin(entry) for entry in stage.files if entry.path in kept))
        for name, stage in manifest.stages.items()
    }
    default = manifest.default_file if manifest.default_file in kept else min(n for n in kept if n.startswith("model."))
    return replace(
        manifest,
        data_root="",
        thresholds=thresholds,
        default_file=default,
        training=without_places(manifest.training),
        stages={name: stage for name, stage in stages.items() if stage.files},
    )


def neutral(bundle: Bundle, name: str) -> bytes:
    """A report without the places where the images lay."""
    found = read(bundle, name)
    if name == PARITY:
        found["images"] = without_place(found["images"])
    root = bundle.manifest.data_root
    return to_text(strings(found, lambda text: text.replace(root, "DATA") if root else text)).encode()


def refuse_places(folder: Path, bundle: Bundle) -> None:
    """Raises: BundleError when a file holds the path of something on this machine."""
    known = [Path(bundle.manifest.data_root or "/"), bundle.root.resolve(), Path.cwd(), Path.home(), folder.resolve()]
    places = {str(place).encode() for place in known if len(place.parts) > 1}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        named = [place.decode() for place in places if re.search(re.escape(place) + rb"(?![\w-])", content)]
        if named:
            raise BundleError(f"it would carry the path {named[0]}", where=path.relative_to(folder).as_posix())


def listed(root: Path, entry: FileEntry) -> FileEntry:
    """The entry with the hash and size of the file as it lies in `root`."""
    path = path_inside(root, entry.path)
    return replace(entry, sha256=sha256(path), size=path.stat().st_size)


def read(bundle: Bundle, name: str) -> dict[str, Any]:
    return read_json(bundle.file(name), dict[str, Any])


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
