"""What a training is, decided before its first step: read from the data and the settings, kept for --resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from skinedge import __version__
from skinedge.core import json_io, taxonomy
from skinedge.core.errors import BundleError, ConfigError, DataError
from skinedge.core.files import SOME_ROOM, check_writable, write_atomic
from skinedge.core.json_io import digest
from skinedge.data import readers
from skinedge.data import split as splitting
from skinedge.data.dataset import SPLITS, Dataset, Sample, data_root, read_split, write_split
from skinedge.data.hashing import hash_images
from skinedge.network import fused, lora, model
from skinedge.run.config import TrainConfig, recorded_config
from skinedge.run.manifest import ID, MANIFEST, new_id, now
from skinedge.run.run_directory import Bundle, newest
from skinedge.system import file_lock
from skinedge.system.progress import note
from skinedge.training import teacher
from skinedge.training.device import choose_device, choose_precision

MARKS = (".skinedge-training", "job.json")  # by either of which a work folder is known; the first one is there longest


@dataclass(frozen=True)
class TrainRequest:
    """data: folder of labelled images; out: the run directory to make; device: auto, cpu or cuda.

    resume: go on with the unfinished training of `out`; force: replace a finished or unfinished one.
    """

    data: Path
    out: Path
    config: TrainConfig
    device: str = "auto"
    resume: bool = False
    force: bool = False

    @property
    def work(self) -> Path:
        return self.out.with_name(f"{self.out.name}.training")

    @property
    def begun(self) -> bool:
        """Whether a training of this run was begun: job.json is the last thing that `create_job` writes."""
        return (self.work / "job.json").is_file()


def is_work(folder: Path) -> bool:
    """Whether a folder is the work folder of a training, or an empty one."""
    return folder.is_dir() and (not any(folder.iterdir()) or any((folder / mark).is_file() for mark in MARKS))


def remove_work(work: Path) -> None:
    """Remove a work folder, the mark by which it is known last: a kill on the way leaves that."""
    (work / MARKS[0]).touch()
    (work / MARKS[1]).unlink(missing_ok=True)
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKS[0]:
            path.unlink()
    shutil.rmtree(work)


@dataclass(frozen=True)
class Job:
    """What is decided before the first step, and kept for --resume: written to job.json.

    teacher: as `teacher.described` says it, {} without one;
    replaces: id of the run whose place this training was told to take (--force), '' for none;
    versions: package -> version, of all that computes.
    """

    id: str
    created_at: str
    config: dict[str, Any]
    data_root: str
    kind: str
    domain: str
    synthetic: bool
    labels: tuple[str, ...]
    taxonomy: dict[str, str]
    melanoma: str | None
    split_sha256: str
    base_source: str
    base_sha256: str
    preprocess: dict[str, Any]
    precision: str
    device: str
    teacher: dict[str, str]
    replaces: str
    versions: dict[str, str]

    @property
    def fingerprint(self) -> str:
        return digest(asdict(self))


def check_output(request: TrainRequest) -> None:
    """Refuse to touch what is there, unless told to; and anything that is no run, and no training, even then.

    Raises: BundleError.
    """
    out = request.out
    if out.exists():
        other = "Choose another --out."
        if not request.force:
            raise BundleError("output exists", where=str(out), todo=f"{other} Or add --force.")
        if not out.is_dir() or (any(out.iterdir()) and not (out / MANIFEST).is_file()):
            raise BundleError(
                "this is not a run; --force replaces runs only", where=str(out), todo="Choose another --out."
            )
        if request.data.resolve().is_relative_to(out.resolve()):
            raise BundleError("the images lie inside the output", where=str(out), todo=other)
    if request.work.exists() and not is_work(request.work):
        todo = "Rename it, or choose another --out."
        raise BundleError("no unfinished training, and its place is needed", where=str(request.work), todo=todo)
    if request.begun and not (request.resume or request.force):
        raise BundleError(
            "an unfinished training is here",
            where=str(request.work),
            todo="Go on with it: --resume. Or drop it: --force.",
        )
    if request.resume and not request.begun:
        note(f"nothing to resume in {request.work}: starting from the beginning")


def lock_output(request: TrainRequest) -> AbstractContextManager[None]:
    """Hold the run's name, so that two trainings cannot write the same files; see `skinedge.system.file_lock`."""
    return file_lock.locked(request.out, "another process is training this run")


def create_job(request: TrainRequest, device: str, processes: int = 1) -> tuple[Job, tuple[Sample, ...]]:
    """Read the data, split it, decide everything, and write job.json and split.csv."""
    config = request.config
    dataset = readers.read(request.data)
    note(f"data: {dataset.kind}, {len(dataset.samples)} images, {len(dataset.labels)} classes in {dataset.root}")
    groups = taxonomy.groups(dataset.labels, config.taxonomy)
    melanoma = taxonomy.melanoma(dataset.labels, config.taxonomy)
    model.build(config.backbone, len(dataset.labels))  # an unknown name must not cost a minute of hashing
    tutor = teacher.chosen(config, dataset.labels, dataset.synthetic)
    samples = split_dataset(dataset, config)
    check_shares(samples, config, processes)
    decoded = sum(sample.split in ("train", "val") for sample in samples) * 3 * config.image_size**2
    check_writable(request.out.parent, decoded + SOME_ROOM)
    if tutor is not None:
        teacher.refuse_leaks(tutor, samples)
    net, base = model.load(config.backbone, len(dataset.labels), config.weights, config.seed)
    note(f"base weights: {base.source}, sha256 {base.sha256[:12]}")
    rule = model.preprocess(net, base.source, config.image_size)
    precision = choose_precision(config.precision, build_network(net, config, device), config.image_size)
    if request.work.exists():
        remove_work(request.work)
    request.work.mkdir(parents=True)
    (request.work / MARKS[0]).touch()
    text = write_split(samples)
    job = Job(
        id=new_id(),
        created_at=now(),
        config=config.to_dict(),
        data_root=str(dataset.root.resolve()),
        kind=dataset.kind,
        domain=config.domain or dataset.domain,
        synthetic=dataset.synthetic,
        labels=dataset.labels,
        taxonomy=groups,
        melanoma=melanoma,
        split_sha256=hashlib.sha256(text.encode()).hexdigest(),
        base_source=base.source,
        base_sha256=base.sha256,
        preprocess=asdict(rule),
        precision=precision,
        device=device,
        teacher=teacher.described(tutor),
        replaces=run_id(request.out),
        versions=versions(),
    )
    write_atomic(request.work / "split.csv", text)
    write_atomic(request.work / "job.json", json.dumps(asdict(job), indent=2))
    return job, samples


def split_dataset(dataset: Dataset, config: TrainConfig) -> tuple[Sample, ...]:
    """The four splits: made anew, or taken from the split.csv that the config names.

    Raises: DataError for unreadable images, or a split that does not fit the folder.
    """
    if config.split:
        samples = read_split(Path(config.split))
        check_reused(samples, dataset, config.split)
    else:
        dataset = hash_images(dataset)
        if config.limit is not None:
            dataset = splitting.limit(dataset, config.limit, config.seed)
        samples = splitting.split(dataset, config.seed)
    counts = {name: sum(sample.split == name for sample in samples) for name in SPLITS}
    note("split: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    return samples


def check_shares(samples: tuple[Sample, ...], config: TrainConfig, processes: int) -> None:
    """Raises: ConfigError when a batch, or the whole training split, is too small to give every process an image."""
    if config.batch_size < processes:
        raise ConfigError(
            f"batch_size {config.batch_size} is less than one image for each of {processes} processes",
            todo="Start fewer processes, or set a larger batch_size in --config.",
        )
    images = sum(sample.split == "train" for sample in samples)
    if images < processes:
        raise ConfigError(f"{images} training images for {processes} processes", todo="Start fewer processes.")


def check_reused(samples: tuple[Sample, ...], dataset: Dataset, where: str) -> None:
    """Raises: DataError when a reused split lacks images, does not fit the folder, or leaks."""
    splitting.check_complete(samples, dataset.labels, where)
    splitting.check_against(samples, dataset.root)
    here = {sample.path: sample.label for sample in dataset.samples}
    wrong = [sample for sample in samples if here.get(sample.path) != sample.label]
    if wrong:
        found = here.get(wrong[0].path, "no labelled image")
        raise DataError(f"{wrong[0].path} is {wrong[0].label} in the split, {found} in the folder", where=where)


def versions() -> dict[str, str]:
    """package -> version of all that decides a training's bits."""
    names = ("torch", "timm", "peft", "numpy", "pillow")
    return {"skinedge": __version__, **{name: metadata.version(name) for name in names}}


def read_job(request: TrainRequest) -> Job:
    """The job of an unfinished training.

    Raises: BundleError when job.json is damaged or another version's.
    """
    path = request.work / "job.json"
    again = "Start again with --force."
    raw = json_io.read_json(path, dict[str, Any], error=json_io.refusal("cannot resume", todo=again))
    if set(raw) != {field.name for field in fields(Job)}:
        raise BundleError("cannot resume: written by another version", where=str(path), todo=again)
    job = json_io.build(raw, Job, str(path), error=json_io.refusal("cannot resume", todo=again))
    if not ID.fullmatch(job.id):  # a folder is named for it
        raise BundleError(f"cannot resume: {job.id!r} is no id", where=str(path), todo=again)
    return job


def replaces(request: TrainRequest) -> bool:
    """Whether the unfinished training of `out` is to take the place of the run that is there."""
    there = run_id(request.out)
    return request.begun and there != "" and read_job(request).replaces == there


def run_id(out: Path) -> str:
    """The id of the run at `out`; '' where there is none that can be read."""
    with contextlib.suppress(BundleError):
        return Bundle.open(out).manifest.id
    return ""


def reopen(request: TrainRequest) -> tuple[Job, tuple[Sample, ...]]:
    """The job of an interrupted training, if it is the one that is asked for.

    Raises: BundleError when the settings, the split or the packages' versions differ, naming them.
    """
    path, job = request.work / "job.json", read_job(request)
    refuse_other_settings(request.config, job.config, path)
    refuse_other_versions(job.versions, path)
    if data_root(request.data).resolve() != Path(job.data_root):
        raise BundleError(f"the training to resume has its images in {job.data_root}", where=str(path))
    if choose_device(request.device) != job.device:
        raise BundleError(f"the training to resume ran on {job.device}", where=str(path), todo=f"--device {job.device}")
    samples = read_split(request.work / "split.csv")
    if hashlib.sha256(write_split(samples).encode()).hexdigest() != job.split_sha256:
        raise BundleError("split.csv was changed since training began", where=str(request.work))
    return job, samples


def refuse_other_versions(begun: Mapping[str, str], where: Path) -> None:
    """Raises: BundleError naming what changed: another version may compute other bits, or read other files."""
    changed = [f"{name} {begun.get(name)} (now {mine})" for name, mine in versions().items() if begun.get(name) != mine]
    if changed:
        raise BundleError(
            f"the training to resume was begun with {', '.join(changed)}",
            where=str(where),
            todo="Install what it began with, or start again with --force.",
        )


def refuse_other_settings(asked: TrainConfig, begun: Mapping[str, Any], where: Path) -> None:
    """Raises: BundleError naming the settings that differ."""
    mine, theirs = asked.to_dict(), recorded_config(begun, str(where)).to_dict()
    different = [key for key in mine if mine[key] != theirs[key]]
    if different:
        raise BundleError(
            f"the training to resume had other settings: {', '.join(different)}",
            where=str(where),
            todo="Give the same command with --resume, or start again with --force.",
        )


def find_unfinished(runs: Path = Path("runs")) -> Path:
    """The run to go on with: the newest unfinished training under `runs`, else the newest run there.

    A run whose training is over may still lack later stages.
    Raises: ConfigError when there is neither.
    """
    begun = sorted(runs.glob("*.training/job.json"), key=lambda path: path.stat().st_mtime)
    if begun:
        return begun[-1].parent.with_suffix("")
    with contextlib.suppress(BundleError):
        return newest(runs).root
    raise ConfigError(f"no unfinished training under {runs}/", todo="Start without --resume, or name it: --out RUN.")


def build_network(net: Any, config: TrainConfig, device: str) -> Any:
    """The network with fresh adapters, where and as it is trained.

    Raises: ConfigError when the backbone does not take images of this size, or the device has no room for it.
    """
    import torch

    network = lora.attach(net, config.lora, config.seed)
    try:
        network = lora.channels_last(network.to(device))
        fused.fuse(network, config.image_size)
    except torch.OutOfMemoryError:
        todo = "End what else uses its memory, or use --device cpu."
        raise ConfigError(f"the memory of {device} does not hold '{config.backbone}'", todo=todo) from None
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        size = config.image_size
        raise ConfigError(f"'{config.backbone}' does not take images of {size} x {size} pixels ({reason})") from None
    return network
