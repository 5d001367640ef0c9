"""`skinedge train`: images in, a run directory with a split and a PEFT adapter out.

Work goes on in `RUN.training`; only a finished run is renamed to RUN, so a run directory is never half
written, and an interrupted training can be taken up again with --resume.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skinedge import __version__
from skinedge.core.errors import BundleError
from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import SPLITS, Sample, read_split
from skinedge.data.licensing import Licence, licence_of
from skinedge.network import model
from skinedge.network.int8_risks import SAFE, int8_risks
from skinedge.run.config import TrainConfig, recorded_config
from skinedge.run.manifest import Manifest
from skinedge.run.run_directory import Bundle
from skinedge.stats.calibration import learned_prior
from skinedge.system import folder_swap
from skinedge.system.file_lock import lock_file
from skinedge.system.malloc import keep_freed_memory
from skinedge.system.progress import note
from skinedge.system.requirements import TRAIN, require
from skinedge.training.checkpoint import Checkpoints
from skinedge.training.decoded_cache import build_cache
from skinedge.training.device import choose_device
from skinedge.training.distributed import Processes, joined
from skinedge.training.job import (
    Job,
    TrainRequest,
    build_network,
    check_output,
    check_shares,
    create_job,
    is_work,
    lock_output,
    read_job,
    refuse_other_settings,
    remove_work,
    reopen,
    replaces,
    run_id,
)
from skinedge.training.merge import ADAPTER
from skinedge.training.teacher import load_teacher
from skinedge.training.train_loop import Progress as LoopProgress
from skinedge.training.train_loop import fit
from skinedge.training.train_step import Examples, Problem


def train(request: TrainRequest) -> Bundle:
    """Train adapters and write the run.

    Started by a launcher in several processes, it returns in the main one alone.
    Raises: SkinedgeError for anything the user can mend; KeyboardInterrupt leaves a checkpoint; Dismissed in the
    processes that are not the main one, when they are done.
    """
    require(TRAIN, "train")
    device = choose_device(request.device)
    if device == "cpu":
        keep_freed_memory()
    with joined(device) as processes, ExitStack() as held:
        opened = processes.on_main(lambda: open_training(request, device, held, processes.count))
        return opened if isinstance(opened, Bundle) else train_and_write(*opened, processes)


def open_training(
    request: TrainRequest, device: str, held: ExitStack, processes: int
) -> Bundle | tuple[TrainRequest, Job, tuple[Sample, ...]]:
    """The training to do, new or interrupted, its name claimed until `held` closes; or the run, if all is done.

    The request that comes back is the one to go on with, in every process.
    """
    folder_swap.recover(request.out)
    if request.resume and request.out.exists():
        if not replaces(request):
            return finished_run(request)
        request = replace(request, force=True)  # as the interrupted command was
    held.enter_context(lock_output(request))
    discard_finished(request)
    check_output(request)
    if not (request.resume and request.begun):
        return request, *create_job(request, device, processes)
    job, samples = reopen(request)
    check_shares(samples, request.config, processes)
    return request, job, samples


def finished_run(request: TrainRequest) -> Bundle:
    """The run at `out`, where --resume finds that nothing is left to do.

    Raises: BundleError when it was trained with other settings.
    """
    bundle = Bundle.open(request.out)
    if "config" not in bundle.manifest.training:
        raise BundleError(
            "this run does not say how it was trained", where=str(request.out), todo="Choose another --out."
        )
    refuse_other_settings(request.config, bundle.manifest.training["config"], request.out)
    if request.work.exists() or lock_file(request.out).exists():  # a kill came before the tidying up was done
        with lock_output(request):
            discard_finished(request)
    note(f"{request.out} is trained already")
    return bundle


def train_and_write(request: TrainRequest, job: Job, samples: tuple[Sample, ...], processes: Processes) -> Bundle:
    """Train (from a checkpoint where there is one), write the run, drop the work folder."""
    network, progress = fitted(request, job, samples, processes)

    def finish() -> Bundle:
        bundle = write_run(request, job, network, progress)
        discard(request)
        return bundle

    return processes.on_main(finish)


def fitted(
    request: TrainRequest, job: Job, samples: tuple[Sample, ...], processes: Processes
) -> tuple[Any, LoopProgress]:
    """The trained network, and how training went."""
    network = processes.on_all(lambda: load(job))
    processes.on_main(lambda: decode(request, job, samples))
    problem = processes.on_all(lambda: build_problem(request, job, samples, processes))
    describe_work(network, problem)
    return network, fit(network, problem, Checkpoints(request.work, job.fingerprint))


def settings(job: Job) -> TrainConfig:
    return recorded_config(job.config, "job.json")


def load(job: Job) -> Any:
    """The network as training begins. Raises: BundleError when this host's base weights are other ones."""
    config = settings(job)
    net, base = model.load(config.backbone, len(job.labels), config.weights, config.seed)
    if base.sha256 != job.base_sha256:
        raise BundleError("the base weights are not those that training began with", where=base.source)
    return build_network(net, config, job.device)


def decode(request: TrainRequest, job: Job, samples: tuple[Sample, ...]) -> None:
    """Build the caches that `build_problem` opens, before anyone needs them."""
    for split in ("train", "val"):
        examples(request, job, samples, split)


def build_problem(request: TrainRequest, job: Job, samples: tuple[Sample, ...], processes: Processes) -> Problem:
    """Raises: BundleError on a host that does not see the files of the main process, or sees another teacher."""
    if not request.begun:
        raise BundleError(
            "this host does not see the folder that the main process works in",
            where=str(request.work),
            todo="--data and --out must lie on a disk that all hosts share, under the same path.",
        )
    config, learned = settings(job), learned_prior(job.config["imbalance"], frequencies(job.labels, samples))
    return Problem(
        config=config,
        preprocess=Preprocess.from_dict(job.preprocess),
        classes=len(job.labels),
        train=examples(request, job, samples, "train"),
        val=examples(request, job, samples, "val"),
        device=job.device,
        precision=job.precision,
        processes=processes,
        teacher=load_teacher(config.teacher, job.teacher, learned, job.device) if job.teacher else None,
    )


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
    risks = int8_risks(network)
    for risk in risks:
        note(f"warning: int8 may not hold with this backbone: {risk}")
    if risks:
        note(f"  export --int8 will look for a precision that keeps the diagnosis. Backbones without this: {SAFE}")


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
    try:
        check_output(replace(request, resume=True))
    except BundleError as error:
        todo = f"Move it away, then give the same command with --resume: the training is kept in {request.work}."
        raise BundleError("something came there while training went on", where=error.where, todo=todo) from None
    folder_swap.put_in_place(built, request.out, replace=True)
    return Bundle.open(request.out)


def discard(request: TrainRequest) -> None:
    """Remove the work folder of a finished training, which may hold the run that it replaced."""
    remove_work(request.work)


def discard_finished(request: TrainRequest) -> None:
    """Remove the work folder, if the run at `out` came from it or no training was begun in it: a kill left it.

    One whose job cannot be read is another version's, and another training's.
    """
    both = is_work(request.work) and request.out.exists()
    with suppress(BundleError):
        if both and (not request.begun or read_job(request).id == run_id(request.out)):
            discard(request)


def manifest_of(request: TrainRequest, job: Job, progress: LoopProgress) -> Manifest:
    samples = read_split(request.work / "split.csv")
    shares = frequencies(job.labels, samples)
    best = progress.history[progress.best_epoch]
    terms = licence_of(job.kind, samples)
    if job.teacher:  # what it taught, it learned from images with terms of their own
        theirs = Licence(job.teacher["license"], job.teacher["attribution"])
        terms = Licence(terms.license or theirs.license, terms.attribution or theirs.attribution)
    license = job.config.get("license")
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
        class_prior=learned_prior(job.config["imbalance"], shares),
        data_root=job.data_root,
        training={
            "backbone": job.config["backbone"],
            "base_weights": {"source": job.base_source, "sha256": job.base_sha256},
            "config": job.config,
            "data": {"kind": job.kind, "counts": split_counts(samples), "training_prior": shares},
            "teacher": job.teacher,
            "device": job.device,
            "precision": job.precision,
            "best": best,
            "seconds": round(progress.total_seconds, 1),
            "versions": job.versions,
        },
        license=terms.license if license is None else license,
        attribution=terms.attribution,
    )


def frequencies(labels: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
    """label -> share of the training images."""
    training = [sample.label for sample in samples if sample.split == "train"]
    return {label: training.count(label) / len(training) for label in labels}


def split_counts(samples: tuple[Sample, ...]) -> dict[str, dict[str, int]]:
    """split -> label -> number of images."""
    labels = sorted({sample.label for sample in samples})
    return {
        split: {label: sum(s.split == split and s.label == label for s in samples) for label in labels}
        for split in SPLITS
    }
