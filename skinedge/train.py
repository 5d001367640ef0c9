"""`skinedge train`: images in, a run directory with a split and a PEFT adapter out.

Work goes on in `RUN.training`; only a finished run is renamed to RUN, so a run directory is never half
written, and an interrupted training can be taken up again with --resume.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skinedge import __version__, model
from skinedge.bundle import Bundle, Manifest
from skinedge.cache import build_cache
from skinedge.checkpoint import Checkpoints
from skinedge.config import TrainConfig, from_dict
from skinedge.data.dataset import SPLITS, Sample, read_split
from skinedge.doctor import TRAIN, require
from skinedge.errors import BundleError
from skinedge.job import (
    Job,
    TrainRequest,
    begin,
    check_output,
    claimed,
    read_job,
    ready,
    refuse_other_settings,
    reopen,
    replaces,
)
from skinedge.loop import Examples, Problem, fit
from skinedge.loop import Progress as LoopProgress
from skinedge.merge import ADAPTER
from skinedge.precision import choose_device
from skinedge.preprocess import Preprocess
from skinedge.progress import note


def train(request: TrainRequest) -> Bundle:
    """Train adapters and write the run.

    Raises: SkinedgeError for anything the user can mend; KeyboardInterrupt leaves a checkpoint.
    """
    require(TRAIN, "train")
    device = choose_device(request.device)
    if request.resume and request.out.exists():
        if not replaces(request):
            return finished_run(request)
        request = replace(request, force=True)  # as the interrupted command was
    with claimed(request):
        check_output(request)
        job, samples = reopen(request) if request.resume and request.begun else begin(request, device)
        return carry_on(request, job, samples)


def finished_run(request: TrainRequest) -> Bundle:
    """The run at `out`, where --resume finds that nothing is left to do.

    Raises: BundleError when it was trained with other settings.
    """
    bundle = Bundle.open(request.out)
    refuse_other_settings(request.config, bundle.manifest.training["config"], request.out)
    if request.work.exists():  # the end came between the rename and the tidying up
        with claimed(request):
            if not request.begun or read_job(request).id == bundle.manifest.id:
                discard(request, bundle.manifest.id)
    note(f"{request.out} is trained already")
    return bundle


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
    progress = fit(network, problem, Checkpoints(request.work, job.fingerprint))
    bundle = write_run(request, job, network, progress)
    discard(request, job.id)
    return bundle


def examples(request: TrainRequest, job: Job, samples: tuple[Sample, ...], split: str) -> Examples:
    mine = [sample for sample in samples if sample.split == split]
    size = int(job.preprocess["size"])
    pixels = build_cache(Path(job.data_root), mine, size, request.work / f"{split}.{size}.u8")
    labels = np.array([job.labels.index(sample.label) for sample in mine], dtype=np.int64)
    return Examples(pixels, labels)


def describe_work(network: Any, problem: Problem) -> None:
    total = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    note(
        f"training {trained:,} of {total:,} parameters on {problem.device} in {problem.precision}, "
        f"{len(problem.train.labels)} images at {problem.preprocess.size} px, {problem.config.epochs} epochs"
    )


def write_run(request: TrainRequest, job: Job, network: Any, progress: LoopProgress) -> Bundle:
    """Assemble the run beside its final place, then rename it there."""
    built = request.work / "run"
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    bundle = Bundle.create(built, manifest_of(request, job, progress))
    made_from = {"base_weights": job.base_sha256, "job": job.fingerprint}
    with bundle.stage("train", f"skinedge {__version__}", made_from) as stage:
        network.save_pretrained(str(request.work / "adapter"))
        for name in ADAPTER:
            shutil.copyfile(request.work / name, stage.path(name))
        shutil.copyfile(request.work / "split.csv", stage.path("split.csv"))
        history = {"schema": "skinedge.training/1", "history": progress.history, "best_epoch": progress.best_epoch + 1}
        stage.path("reports/training.json").write_text(json.dumps(history, indent=2) + "\n", encoding="utf-8")
    check_output(replace(request, resume=True))  # something may have come there while training went on
    if request.out.exists():
        request.out.replace(request.retired(job.id))
    built.replace(request.out)
    return Bundle.open(request.out)


def discard(request: TrainRequest, job_id: str) -> None:
    """Remove what a finished training leaves: the run that it replaced, and its work folder, which tells of it."""
    shutil.rmtree(request.retired(job_id), ignore_errors=True)
    shutil.rmtree(request.work)


def manifest_of(request: TrainRequest, job: Job, progress: LoopProgress) -> Manifest:
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
        melanoma=job.melanoma,
        preprocess=Preprocess.from_dict(job.preprocess),
        class_prior=uniform if job.config["imbalance"] == "logit-adjusted" else frequencies,
        data_root=job.data_root,
        training={
            "backbone": job.config["backbone"],
            "base_weights": {"source": job.base_source, "sha256": job.base_sha256},
            "config": job.config,
            "data": {"kind": job.kind, "counts": split_counts(samples), "training_prior": frequencies},
            "device": job.device,
            "precision": job.precision,
            "best": best,
            "seconds": round(progress.total_seconds, 1),
            "versions": job.versions,
        },
    )


def split_counts(samples: tuple[Sample, ...]) -> dict[str, dict[str, int]]:
    """split -> label -> number of images."""
    labels = sorted({sample.label for sample in samples})
    return {
        split: {label: sum(s.split == split and s.label == label for s in samples) for label in labels}
        for split in SPLITS
    }
