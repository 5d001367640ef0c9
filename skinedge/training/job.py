"""The job of a training: everything decided from data and settings before the first step, saved for --resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from skinedge import __version__
from skinedge.core import json_io, taxonomy
from skinedge.core.errors import BundleError, ConfigError, DataError
from skinedge.core.files import SOME_ROOM, check_writable, encode, sha256, write_atomic
from skinedge.core.json_io import digest
from skinedge.data import readers
from skinedge.data import split as splitting
from skinedge.data.dataset import SPLITS, Dataset, Sample, data_root, read_split, write_split
from skinedge.data.hashing import hash_images
from skinedge.data.plan import PLAN
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.network import fused, lora, model
from skinedge.run.config import TrainConfig, recorded_config
from skinedge.run.manifest import ID, MANIFEST, new_id, now
from skinedge.run.run_directory import Bundle, newest
from skinedge.system import file_lock
from skinedge.system.progress import note
from skinedge.training import ensemble, teacher
from skinedge.training.device import choose_device, choose_precision

CONTINUE = "Or add --resume to finish an interrupted command, --force to replace it."
MARKERS = (
    ".skinedge-training",
    "job.json",
)  # identify a work folder; the first is written first, removed last


@dataclass(frozen=True)
class TrainRequest:
    """What to train.

    data: folder of labelled images; out: run directory to create; device: auto, cpu or cuda;
    resume: continue the unfinished training of `out`; force: replace a finished run or an unfinished training;
    reading: how to read the folder; log: a format of `history.FORMATS`, '' for none.
    """

    data: Path
    out: Path
    config: TrainConfig = field(default_factory=TrainConfig)
    device: str = "auto"
    resume: bool = False
    force: bool = False
    reading: ReadOptions = DEFAULT
    log: str = ""

    @property
    def work(self) -> Path:
        """The work folder, beside the run directory."""
        return self.out.with_name(f"{self.out.name}.training")

    @property
    def started(self) -> bool:
        """Whether a training of this run was started: `create_job` writes job.json last."""
        return (self.work / "job.json").is_file()


def is_work_folder(folder: Path) -> bool:
    """Return True for the work folder of a training and for an empty folder."""
    return folder.is_dir() and (not any(folder.iterdir()) or any((folder / marker).is_file() for marker in MARKERS))


def remove_work_folder(work: Path) -> None:
    """Remove a work folder, its first marker last, so that it stays identifiable if the process is killed."""
    (work / MARKERS[0]).touch()
    (work / MARKERS[1]).unlink(missing_ok=True)
    for path in work.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKERS[0]:
            path.unlink()
    shutil.rmtree(work)


@dataclass(frozen=True)
class Job:
    """Everything decided before the first step; written to job.json for --resume.

    teacher: `describe_teachers`, {} without one; replaces: id of the run that this training replaces (--force), '' for
    none; versions: package -> version, of every package that affects the result; reading: `recorded_reading`; partial:
    as of `Dataset`; sources: `DataSource` of each of several folders, [] for one.
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
    teacher: dict[str, Any]
    replaces: str
    versions: dict[str, str]
    reading: dict[str, Any]
    partial: dict[str, list[str]]
    sources: list[dict[str, Any]]

    @property
    def fingerprint(self) -> str:
        """Digest of all fields."""
        return digest(asdict(self))


def check_output(request: TrainRequest) -> None:
    """Refuse to overwrite a run or a training without --force, and any other folder even with it.

    Raises: BundleError.
    """
    out = request.out
    if out.exists():
        todo = "Choose another --out."
        if not request.force:
            raise BundleError("output exists", where=str(out), todo=f"{todo} {CONTINUE}")
        if not out.is_dir() or (any(out.iterdir()) and not (out / MANIFEST).is_file()):
            raise BundleError("not a run directory; --force only replaces runs", where=str(out), todo=todo)
        if request.data.resolve().is_relative_to(out.resolve()):
            raise BundleError("the images are inside the output folder", where=str(out), todo=todo)
    if request.work.exists() and not is_work_folder(request.work):
        todo = "Rename it, or choose another --out."
        raise BundleError(
            "not an unfinished training, but the work folder needs this path", where=str(request.work), todo=todo
        )
    if request.started and not (request.resume or request.force):
        raise BundleError(
            "an unfinished training exists",
            where=str(request.work),
            todo="Continue it with --resume, or discard it with --force.",
        )
    if request.resume and not request.started:
        note(f"nothing to resume in {request.work}: starting from the beginning")


def lock_output(request: TrainRequest) -> AbstractContextManager[None]:
    """Lock the run's name, so that two trainings cannot write the same files (`skinedge.system.file_lock`)."""
    return file_lock.locked(request.out, "another process is training this run")


def create_job(request: TrainRequest, device: str, processes: int = 1) -> tuple[Job, tuple[Sample, ...]]:
    """Read and split the data, make all decisions, and write split.csv and job.json to a new work folder."""
    config = request.config
    reading = request.reading.located(request.data)
    dataset = readers.read(request.data, reading)
    note(f"data: {dataset.kind}, {len(dataset.samples)} images, {len(dataset.labels)} classes in {dataset.root}")
    groups = taxonomy.groups(dataset.labels, config.taxonomy)
    for label in taxonomy.mixed_classes([label for label in dataset.labels if label not in (config.taxonomy or {})]):
        note(f"class '{label}' mixes diagnoses: it counts as {groups[label]}, the worst of them")
    melanoma = taxonomy.melanoma(dataset.labels, config.taxonomy)
    if melanoma is None and (parts := taxonomy.parts_of_melanoma(dataset.labels)):
        note(f"no class is melanoma as a whole ({', '.join(parts)}): no gate on its sensitivity alone")
    model.build(config.backbone, len(dataset.labels))  # check the name before a minute of hashing
    teachers = ensemble.open_teachers(config, dataset.labels, dataset.synthetic)
    samples = split_dataset(dataset, config)
    check_shares(samples, config, processes)
    decoded_bytes = sum(sample.split in ("train", "val") for sample in samples) * 3 * config.image_size**2
    check_writable(request.out.parent, decoded_bytes + SOME_ROOM)
    for one in teachers:
        teacher.refuse_leaks(one, samples)
    net, base = model.load(config.backbone, len(dataset.labels), config.weights, config.seed)
    note(f"base weights: {base.source}, sha256 {base.sha256[:12]}")
    rule = model.preprocess(net, base.source, config.image_size)
    precision = choose_precision(config.precision, build_network(net, config, device), config.image_size)
    if request.work.exists():
        remove_work_folder(request.work)
    request.work.mkdir(parents=True)
    (request.work / MARKERS[0]).touch()
    split_csv = write_split(samples)
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
        split_sha256=hashlib.sha256(encode(split_csv)).hexdigest(),
        base_source=base.source,
        base_sha256=base.sha256,
        preprocess=asdict(rule),
        precision=precision,
        device=device,
        teacher=ensemble.describe_teachers(teachers),
        replaces=run_id(request.out),
        versions=versions(),
        reading=recorded_reading(reading),
        partial={label: list(classes) for label, classes in dataset.partial.items()},
        sources=[asdict(source) | {"labels": list(source.labels)} for source in dataset.sources],
    )
    if reading.plan is not None:
        shutil.copyfile(reading.plan, request.work / PLAN)
    write_atomic(request.work / "split.csv", split_csv)
    write_atomic(request.work / "job.json", json.dumps(asdict(job), indent=2))
    return job, samples


def recorded_reading(reading: ReadOptions) -> dict[str, Any]:
    """Return how the images were read, for the manifest: table, columns, map, sources, the plan's sha256, as given."""
    plan = {} if reading.plan is None else {"plan_sha256": sha256(reading.plan)}
    return {**reading.document(), **plan}


def split_dataset(dataset: Dataset, config: TrainConfig) -> tuple[Sample, ...]:
    """Assign the images to train, val, cal and test, or read the split.csv named in the config.

    Raises: DataError for unreadable images, or a split that does not match the folder.
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
    note(f"split {splitting.unit_of(samples)}")
    return samples


def check_shares(samples: tuple[Sample, ...], config: TrainConfig, processes: int) -> None:
    """Raises: ConfigError when a batch or the training split has fewer images than there are processes."""
    if config.batch_size < processes:
        raise ConfigError(
            f"batch_size {config.batch_size} is less than one image for each of {processes} processes",
            todo="Start fewer processes, or set a larger batch_size in --config.",
        )
    images = sum(sample.split == "train" for sample in samples)
    if images < processes:
        raise ConfigError(f"{images} training images for {processes} processes", todo="Start fewer processes.")


def check_reused(samples: tuple[Sample, ...], dataset: Dataset, where: str) -> None:
    """Raises: DataError when a reused split lacks images, does not match the folder, or leaks."""
    splitting.check_complete(samples, dataset.labels, where)
    splitting.check_against(samples, dataset.root)
    folder_labels = {sample.path: sample.label for sample in dataset.samples}
    mismatched = [sample for sample in samples if folder_labels.get(sample.path) != sample.label]
    if mismatched:
        path, label = mismatched[0].path, mismatched[0].label
        folder_label = folder_labels.get(path, "no labelled image")
        raise DataError(f"{path} is {label} in the split, {folder_label} in the folder", where=where)


def versions() -> dict[str, str]:
    """Return package -> version of every package that affects the bits of the result."""
    names = ("torch", "timm", "peft", "numpy", "pillow")
    return {"skinedge": __version__, **{name: metadata.version(name) for name in names}}


def read_job(request: TrainRequest) -> Job:
    """Read the job of an unfinished training.

    Raises: BundleError when job.json is damaged or was written by another version.
    """
    path = request.work / "job.json"
    todo = "Start again with --force."
    raw = json_io.read_json(path, dict[str, Any], error=json_io.refusal("cannot resume", todo=todo))
    if set(raw) != {field.name for field in fields(Job)}:
        raise BundleError("cannot resume: written by another version", where=str(path), todo=todo)
    job = json_io.build(raw, Job, str(path), error=json_io.refusal("cannot resume", todo=todo))
    if not ID.fullmatch(job.id):  # it becomes part of a folder name
        raise BundleError(f"cannot resume: {job.id!r} is not a run id", where=str(path), todo=todo)
    return job


def is_replacement(request: TrainRequest) -> bool:
    """Return True if the unfinished training of `out` was started to replace the run at `out`."""
    existing = run_id(request.out)
    return request.started and existing != "" and read_job(request).replaces == existing


def run_id(out: Path) -> str:
    """Return the id of the run at `out`; '' without a readable run."""
    with contextlib.suppress(BundleError):
        return Bundle.open(out).manifest.id
    return ""


def reopen(request: TrainRequest) -> tuple[Job, tuple[Sample, ...]]:
    """Read the job and the samples of the interrupted training to resume.

    Raises: BundleError naming the settings, package versions, data folder, device or split that differ.
    """
    path, job = request.work / "job.json", read_job(request)
    refuse_other_settings(request.config, job.config, path)
    refuse_other_reading(request, job.reading, path)
    refuse_other_versions(job.versions, path)
    if data_root(request.data).resolve() != Path(job.data_root):
        raise BundleError(f"the training to resume has its images in {job.data_root}", where=str(path))
    if choose_device(request.device) != job.device:
        raise BundleError(f"the training to resume ran on {job.device}", where=str(path), todo=f"--device {job.device}")
    samples = read_split(request.work / "split.csv")
    if hashlib.sha256(encode(write_split(samples))).hexdigest() != job.split_sha256:
        raise BundleError("split.csv was changed after training started", where=str(request.work))
    if set(job.labels) != {sample.label for sample in samples} - set(job.partial):
        raise BundleError("job.json and split.csv have different classes", where=str(request.work))
    return job, samples


def refuse_other_versions(recorded: Mapping[str, str], where: Path) -> None:
    """Raises: BundleError naming the changed packages: another version may compute other bits or read other files."""
    changed = [
        f"{name} {recorded.get(name)} (now {installed})"
        for name, installed in versions().items()
        if recorded.get(name) != installed
    ]
    if changed:
        raise BundleError(
            f"the training to resume was started with {', '.join(changed)}",
            where=str(where),
            todo="Install those versions, or start again with --force.",
        )


def refuse_other_settings(requested: TrainConfig, recorded: Mapping[str, Any], where: Path) -> None:
    """Raises: BundleError naming the settings that differ; settings missing from older runs take their defaults."""
    new, old = requested.to_dict(), recorded_config(recorded, str(where)).to_dict()
    different = [key for key in new if new[key] != old[key]]
    if different:
        raise BundleError(
            f"the training to resume had other settings: {', '.join(different)}",
            where=str(where),
            todo="Repeat the original command with --resume, or start again with --force.",
        )


def refuse_other_reading(request: TrainRequest, recorded: Mapping[str, Any], where: Path) -> None:
    """Raises: BundleError naming the options of reading that differ from the recorded ones; those not given do not."""
    given = recorded_reading(request.reading.located(request.data))
    different = [name for name in given if given[name] != recorded.get(name)]
    if different:
        raise BundleError(
            f"the training to resume read its images with other options: {', '.join(different)}",
            where=str(where),
            todo="Leave these options out: the recorded ones are used. Or start again with --force.",
        )


def find_unfinished(runs: Path = Path("runs")) -> Path:
    """Return the run to resume: that of the newest unfinished training under `runs`, else the newest run.

    A run with a finished training may still lack later stages.
    Raises: ConfigError without either.
    """
    jobs = sorted(runs.glob("*.training/job.json"), key=lambda path: path.stat().st_mtime)
    if jobs:
        return jobs[-1].parent.with_suffix("")
    with contextlib.suppress(BundleError):
        return newest(runs).root
    raise ConfigError(f"no unfinished training under {runs}/", todo="Start without --resume, or name it: --out RUN.")


def build_network(net: Any, config: TrainConfig, device: str) -> Any:
    """Attach fresh adapters to `net`, move it to the device and fuse its layers for training.

    Raises: ConfigError when the backbone does not accept images of this size, or does not fit into the device's memory.
    """
    import torch

    network = lora.attach(net, config.lora, config.seed)
    try:
        network = lora.channels_last(network.to(device))
        fused.fuse(network, config.image_size)
    except torch.OutOfMemoryError:
        todo = "Close other programs that use this memory, or use --device cpu."
        raise ConfigError(f"'{config.backbone}' does not fit into the memory of {device}", todo=todo) from None
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        size = config.image_size
        raise ConfigError(f"'{config.backbone}' does not accept images of {size} x {size} pixels ({reason})") from None
    return network
