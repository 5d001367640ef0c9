"""`skinedge train`: images in, a run directory with a split and a PEFT adapter out.

Work goes on in `RUN.training`; only a finished run is renamed to RUN, so a run directory is never half
written, and an interrupted training can be taken up again with --resume.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinedge import __version__, fused, lora, model, taxonomy
from skinedge.bundle import Bundle, Manifest, new_id, now, write_atomic
from skinedge.cache import build_cache
from skinedge.checkpoint import Checkpoints
from skinedge.config import TrainConfig, from_dict
from skinedge.data import readers
from skinedge.data import split as splitting
from skinedge.data.dataset import SPLITS, Dataset, Sample, read_split, write_split
from skinedge.data.hashing import hash_images
from skinedge.errors import BundleError, ConfigError, MissingDependencyError
from skinedge.loop import Examples, Problem, fit
from skinedge.loop import Progress as LoopProgress
from skinedge.precision import choose_device, choose_precision
from skinedge.preprocess import Preprocess
from skinedge.progress import note

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


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


@dataclass(frozen=True)
class Job:
    """What is decided before the first step, and kept for --resume: written to job.json."""

    id: str
    created_at: str
    config: dict[str, Any]
    kind: str
    domain: str
    synthetic: bool
    labels: tuple[str, ...]
    taxonomy: dict[str, str]
    split_sha256: str
    base_source: str
    base_sha256: str
    preprocess: dict[str, Any]
    precision: str
    device: str

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def train(request: TrainRequest) -> Bundle:
    """Train adapters and write the run.

    Raises: SkinedgeError for anything the user can mend; KeyboardInterrupt leaves a checkpoint.
    """
    _need_train_extra()
    device = choose_device(request.device)
    check_output(request)
    if request.resume and request.work.exists():
        job, samples = reopen(request)
    else:
        job, samples = begin(request, device)
    return carry_on(request, job, samples)


def check_output(request: TrainRequest) -> None:
    """Refuse to touch what is there, unless told to.

    Raises: BundleError.
    """
    if request.force:
        return
    if request.out.exists():
        raise BundleError("output exists", where=str(request.out), todo="Choose another --out, or add --force.")
    if request.work.exists() and not request.resume:
        raise BundleError(
            "an unfinished training is here",
            where=str(request.work),
            todo="Go on with it: --resume. Or drop it: --force.",
        )
    if request.resume and not request.work.exists():
        raise BundleError("nothing to resume", where=str(request.work), todo="Start without --resume.")


def begin(request: TrainRequest, device: str) -> tuple[Job, tuple[Sample, ...]]:
    """Read the data, split it, decide everything, and write job.json and split.csv."""
    config = request.config
    dataset = readers.read(request.data)
    note(f"data: {dataset.kind}, {len(dataset.samples)} images, {len(dataset.labels)} classes in {dataset.root}")
    groups = taxonomy.groups(dataset.labels, config.taxonomy)
    model.build(config.backbone, len(dataset.labels))  # an unknown name must not cost a minute of hashing
    samples = divide(dataset, config)
    net, base = model.load(config.backbone, len(dataset.labels), config.weights, config.seed)
    note(f"base weights: {base.source}, sha256 {base.sha256[:12]}")
    rule = model.preprocess(net, base.source, config.image_size)
    precision = choose_precision(config.precision, ready(net, config, device), config.image_size)
    if request.work.exists():
        shutil.rmtree(request.work)
    request.work.mkdir(parents=True)
    text = write_split(samples)
    job = Job(
        id=new_id(),
        created_at=now(),
        config=config.to_dict(),
        kind=dataset.kind,
        domain=config.domain or dataset.domain,
        synthetic=dataset.synthetic,
        labels=dataset.labels,
        taxonomy=groups,
        split_sha256=hashlib.sha256(text.encode()).hexdigest(),
        base_source=base.source,
        base_sha256=base.sha256,
        preprocess=asdict(rule),
        precision=precision,
        device=device,
    )
    write_atomic(request.work / "split.csv", text)
    write_atomic(request.work / "job.json", json.dumps(asdict(job), indent=2))
    return job, samples


def divide(dataset: Dataset, config: TrainConfig) -> tuple[Sample, ...]:
    """The four splits: made anew, or taken from the split.csv that the config names."""
    if config.split:
        samples = read_split(Path(config.split))
        splitting.check_split(samples)
        splitting.check_against(samples, dataset.root)
    else:
        dataset = hash_images(dataset)
        if config.limit is not None:
            dataset = splitting.limit(dataset, config.limit, config.seed)
        samples = splitting.split(dataset, config.seed)
    counts = {name: sum(sample.split == name for sample in samples) for name in SPLITS}
    note("split: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    return samples


def reopen(request: TrainRequest) -> tuple[Job, tuple[Sample, ...]]:
    """The job of an interrupted training, if it is the one that is asked for.

    Raises: BundleError when the settings or the split differ, naming them.
    """
    path = request.work / "job.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        job = Job(**{**raw, "labels": tuple(raw["labels"])})
        samples = read_split(request.work / "split.csv")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BundleError(f"cannot resume: {error}", where=str(path), todo="Start again with --force.") from None
    asked, begun = json.loads(json.dumps(request.config.to_dict())), job.config
    different = [key for key in asked if asked[key] != begun.get(key)]
    if different:
        raise BundleError(
            f"the interrupted training had other settings: {', '.join(different)}",
            where=str(path),
            todo="Give the same command with --resume, or start again with --force.",
        )
    text = write_split(samples)
    if hashlib.sha256(text.encode()).hexdigest() != job.split_sha256:
        raise BundleError("split.csv was changed since training began", where=str(request.work))
    return job, samples


def carry_on(request: TrainRequest, job: Job, samples: tuple[Sample, ...]) -> Bundle:
    """Load, train (from a checkpoint where there is one), write the run, drop the work folder."""
    config = from_dict(TrainConfig, {k: v for k, v in job.config.items() if v is not None}, "job.json")
    net, base = model.load(config.backbone, len(job.labels), config.weights, config.seed)
    if base.sha256 != job.base_sha256:
        raise BundleError("the base weights are not those that training began with", where=base.source)
    rule = Preprocess.from_dict(job.preprocess)
    network = ready(net, config, job.device)
    problem = Problem(
        config=config,
        preprocess=rule,
        classes=len(job.labels),
        train=examples(request, job, samples, "train"),
        val=examples(request, job, samples, "val"),
        device=job.device,
        precision=job.precision,
    )
    describe_work(network, problem)
    started = time.monotonic()
    progress = fit(network, problem, Checkpoints(request.work, job.fingerprint))
    bundle = write_run(request, job, network, progress, time.monotonic() - started)
    shutil.rmtree(request.work)
    return bundle


def ready(net: Any, config: TrainConfig, device: str) -> Any:
    """The network with fresh adapters, where and as it is trained."""
    import torch

    network = lora.attach(net, config.lora, config.seed).to(device).to(memory_format=torch.channels_last)
    fused.fuse(network, config.image_size)
    return network


def examples(request: TrainRequest, job: Job, samples: tuple[Sample, ...], split: str) -> Examples:
    mine = [sample for sample in samples if sample.split == split]
    size = int(job.preprocess["size"])
    pixels = build_cache(request.data, mine, size, request.work / f"{split}.{size}.u8")
    labels = np.array([job.labels.index(sample.label) for sample in mine], dtype=np.int64)
    return Examples(pixels, labels)


def describe_work(network: Any, problem: Problem) -> None:
    total = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    note(
        f"training {trained:,} of {total:,} parameters on {problem.device} in {problem.precision}, "
        f"{len(problem.train.labels)} images at {problem.preprocess.size} px, {problem.config.epochs} epochs"
    )


def write_run(request: TrainRequest, job: Job, network: Any, progress: LoopProgress, seconds: float) -> Bundle:
    """Assemble the run beside its final place, then rename it there."""
    built = request.work / "run"
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    bundle = Bundle.create(built, manifest_of(request, job, progress, seconds))
    made_from = {"base_weights": job.base_sha256, "job": job.fingerprint}
    with bundle.stage("train", f"skinedge {__version__}", made_from) as stage:
        saved = request.work / "adapter"
        network.save_pretrained(str(saved))
        for name in ADAPTER_FILES:
            shutil.copyfile(saved / name, stage.path(f"adapter/{name}"))
        shutil.copyfile(request.work / "split.csv", stage.path("split.csv"))
        history = {"schema": "skinedge.training/1", "history": progress.history, "best_epoch": progress.best_epoch + 1}
        stage.path("reports/training.json").write_text(json.dumps(history, indent=2) + "\n", encoding="utf-8")
    retired = request.out.with_name(f"{request.out.name}.replaced-{job.id}")
    if request.out.exists():
        request.out.replace(retired)
    built.replace(request.out)
    shutil.rmtree(retired, ignore_errors=True)
    return Bundle.open(request.out)


def manifest_of(request: TrainRequest, job: Job, progress: LoopProgress, seconds: float) -> Manifest:
    samples = read_split(request.work / "split.csv")
    training = [sample.label for sample in samples if sample.split == "train"]
    frequencies = {label: training.count(label) / len(training) for label in job.labels}
    uniform = {label: 1 / len(job.labels) for label in job.labels}
    best = progress.history[progress.best_epoch]
    return Manifest(
        id=job.id,
        name=request.out.name,
        created_at=job.created_at,
        synthetic=job.synthetic,
        domain=job.domain,
        labels=job.labels,
        taxonomy=job.taxonomy,
        preprocess=Preprocess.from_dict(job.preprocess),
        class_prior=uniform if job.config["imbalance"] == "logit-adjusted" else frequencies,
        data_root=str(request.data.resolve()),
        training={
            "backbone": job.config["backbone"],
            "base_weights": {"source": job.base_source, "sha256": job.base_sha256},
            "config": job.config,
            "data": {"kind": job.kind, "counts": split_counts(samples), "training_prior": frequencies},
            "device": job.device,
            "precision": job.precision,
            "best": best,
            "seconds": round(seconds, 1),
            "versions": versions(),
        },
    )


def split_counts(samples: tuple[Sample, ...]) -> dict[str, dict[str, int]]:
    """split -> label -> number of images."""
    labels = sorted({sample.label for sample in samples})
    return {
        split: {label: sum(s.split == split and s.label == label for s in samples) for label in labels}
        for split in SPLITS
    }


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "timm", "peft", "numpy", "pillow")}


def find_unfinished(runs: Path = Path("runs")) -> Path:
    """The run directory that the newest unfinished training under `runs` will become.

    Raises: ConfigError when there is none.
    """
    found = sorted(runs.glob("*.training/job.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigError(
            f"no unfinished training under {runs}/", todo="Start without --resume, or name it: --out RUN."
        )
    return found[-1].parent.with_suffix("")


def _need_train_extra() -> None:
    from importlib.util import find_spec

    for package in ("torch", "timm", "peft"):
        if find_spec(package) is None:
            raise MissingDependencyError(package, "train")
