"""`skinedge train`: from labelled images to a run directory with a split and a PEFT adapter.

Training writes to `RUN.training` and renames only a finished run to RUN, so a run directory is never incomplete, and
--resume continues an interrupted training.
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
from skinedge.core import json_io
from skinedge.core.errors import BundleError
from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import SPLITS, DataSource, Sample, read_split
from skinedge.data.licensing import Licence, both, joint_licence, licence_of
from skinedge.data.plan import PLAN
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
from skinedge.training.distributed import Processes, join_processes
from skinedge.training.ensemble import load_teachers
from skinedge.training.history import FORMATS, write_log
from skinedge.training.job import (
    Job,
    TrainRequest,
    build_network,
    check_output,
    check_shares,
    create_job,
    is_replacement,
    is_work_folder,
    lock_output,
    read_job,
    refuse_other_reading,
    refuse_other_settings,
    remove_work_folder,
    reopen,
    run_id,
)
from skinedge.training.merge import ADAPTER
from skinedge.training.request_check import check_request
from skinedge.training.source_loss import source_rules
from skinedge.training.train_loop import Progress as LoopProgress
from skinedge.training.train_loop import fit
from skinedge.training.train_step import Examples, Problem


def train(request: TrainRequest) -> Bundle:
    """Train adapters and write the run.

    With several processes (see distributed.py), only the main process returns.
    Raises: SkinedgeError for every problem that the user can fix; KeyboardInterrupt, after writing a checkpoint;
    Dismissed at the end of the other processes.
    """
    check_request(request)
    require(TRAIN, "train")
    device = choose_device(request.device)
    if device == "cpu":
        keep_freed_memory()
    with join_processes(device) as processes, ExitStack() as locks:
        opened = processes.on_main(lambda: open_training(request, device, locks, processes.count))
        return opened if isinstance(opened, Bundle) else train_and_write(*opened, processes)


def open_training(
    request: TrainRequest, device: str, locks: ExitStack, processes: int
) -> Bundle | tuple[TrainRequest, Job, tuple[Sample, ...]]:
    """Create a training or reopen an interrupted one, and lock its name until `locks` closes.

    Returns: the finished run, if nothing is left to train; else the request to continue with (the same in every
    process), the job and the samples.
    """
    folder_swap.recover(request.out)
    if request.resume and request.out.exists():
        if not is_replacement(request):
            return finished_run(request)
        request = replace(request, force=True)  # as in the interrupted command
    locks.enter_context(lock_output(request))
    discard_finished(request)
    check_output(request)
    if not (request.resume and request.started):
        return request, *create_job(request, device, processes)
    job, samples = reopen(request)
    check_shares(samples, request.config, processes)
    return request, job, samples


def finished_run(request: TrainRequest) -> Bundle:
    """Open the finished run at `out`, for which --resume has nothing left to train.

    Raises: BundleError when it was trained with other settings.
    """
    bundle = Bundle.open(request.out)
    if "config" not in bundle.manifest.training:
        raise BundleError(
            "the manifest of this run has no training settings", where=str(request.out), todo="Choose another --out."
        )
    refuse_other_settings(request.config, bundle.manifest.training["config"], request.out)
    refuse_other_reading(request, bundle.manifest.training["data"].get("reading", {}), request.out)
    if request.work.exists() or lock_file(request.out).exists():  # a killed process did not clean up
        with lock_output(request):
            discard_finished(request)
    note(f"{request.out} is already trained")
    return bundle


def train_and_write(request: TrainRequest, job: Job, samples: tuple[Sample, ...], processes: Processes) -> Bundle:
    """Train (from a checkpoint, if any), write the run, and remove the work folder."""
    network, progress = fit_network(request, job, samples, processes)

    def finish() -> Bundle:
        bundle = write_run(request, job, network, progress)
        discard(request)
        return bundle

    return processes.on_main(finish)


def fit_network(
    request: TrainRequest, job: Job, samples: tuple[Sample, ...], processes: Processes
) -> tuple[Any, LoopProgress]:
    """Run the training loop; return the trained network and the loop's final state."""
    network = processes.on_all(lambda: load_network(job))
    processes.on_main(lambda: decode_images(request, job, samples))
    problem = processes.on_all(lambda: build_problem(request, job, samples, processes))
    note_training(network, problem)
    return network, fit(network, problem, Checkpoints(request.work, job.fingerprint))


def job_config(job: Job) -> TrainConfig:
    """Return the job's settings; settings missing from older jobs take their defaults."""
    return recorded_config(job.config, "job.json")


def load_network(job: Job) -> Any:
    """Build the untrained network. Raises: BundleError when this host's base weights differ from the job's."""
    config = job_config(job)
    net, base = model.load(config.backbone, len(job.labels), config.weights, config.seed)
    if base.sha256 != job.base_sha256:
        raise BundleError("the base weights differ from those that training started with", where=base.source)
    return build_network(net, config, job.device)


def decode_images(request: TrainRequest, job: Job, samples: tuple[Sample, ...]) -> None:
    """Build the image caches that `build_problem` opens in every process."""
    for split in ("train", "val"):
        examples(request, job, samples, split)


def build_problem(request: TrainRequest, job: Job, samples: tuple[Sample, ...], processes: Processes) -> Problem:
    """Assemble the inputs of the training loop: images, settings, device, processes and teacher.

    Raises: BundleError on a host without the main process's files, or with another teacher.
    """
    if not request.started:
        raise BundleError(
            "this host has no access to the main process's work folder",
            where=str(request.work),
            todo="Put --data and --out on a disk that all hosts share, under the same path.",
        )
    config = job_config(job)
    student_prior = learned_prior(job.config["imbalance"], frequencies(job.labels, samples))
    return Problem(
        config=config,
        preprocess=Preprocess.from_dict(job.preprocess),
        classes=len(job.labels),
        train=examples(request, job, samples, "train"),
        val=examples(request, job, samples, "val"),
        device=job.device,
        precision=job.precision,
        processes=processes,
        teacher=load_teachers(config, job.teacher, student_prior, job.device),
    )


def examples(request: TrainRequest, job: Job, samples: tuple[Sample, ...], split: str) -> Examples:
    """Open the prepared images and labels of a split, from the decoded cache."""
    members = [sample for sample in samples if sample.split == split]
    rule = Preprocess.from_dict(job.preprocess)
    pixels = build_cache(Path(job.data_root), members, rule, request.work / f"{split}.{rule.size}.u8")
    rows = [*job.labels, *job.partial]
    labels = np.array([rows.index(sample.label) for sample in members], dtype=np.int64)
    known = {str(source["name"]): source["labels"] for source in job.sources} or {"": job.labels}
    rules = source_rules(members, job.labels, job.partial, known) if split == "train" else None
    names = list(known)
    sources = np.array([names.index(s.source) for s in members], dtype=np.int64) if len(names) > 1 else None
    return Examples(pixels, labels, rules, sources)


def note_training(network: Any, problem: Problem) -> None:
    """Print what is trained, and warn about layers that are a risk in int8."""
    total = sum(p.numel() for p in network.parameters())
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    note(
        f"training {trainable:,} of {total:,} parameters on {problem.device} in {problem.precision}, "
        f"{len(problem.train.labels)} images at {problem.preprocess.size} px, {problem.config.epochs} epochs"
    )
    risks = int8_risks(network)
    for risk in risks:
        note(f"warning: int8 risk of this backbone: {risk}")
    if risks:
        note(
            f"  export --int8 searches for a precision that keeps the predictions. Backbones without this risk: {SAFE}"
        )


def write_run(request: TrainRequest, job: Job, network: Any, progress: LoopProgress) -> Bundle:
    """Assemble the run in the work folder, then rename it to `out`."""
    new_run = request.work / "run"
    shutil.rmtree(new_run, ignore_errors=True)
    new_run.mkdir()
    bundle = Bundle.create(new_run, manifest_of(request, job, progress))
    made_from = {"base_weights": job.base_sha256, "job": job.fingerprint}
    with bundle.stage("train", f"skinedge {__version__}", made_from) as stage:
        network.save_pretrained(str(request.work / "adapter"))
        for name in ADAPTER:
            shutil.copyfile(request.work / name, stage.path(name))
        for name in ("split.csv", *([PLAN] if "plan_sha256" in job.reading else [])):
            shutil.copyfile(request.work / name, stage.path(name))
        history = {"schema": "skinedge.training/1", "history": progress.history, "best_epoch": progress.best_epoch + 1}
        stage.path("reports/training.json").write_text(json.dumps(history, indent=2) + "\n", encoding="utf-8")
        if request.log:
            write_log(request.log, stage.path(FORMATS[request.log]), progress.history)
    try:
        check_output(replace(request, resume=True))
    except BundleError as error:
        todo = f"Move it away, then repeat the command with --resume; the training is kept in {request.work}."
        raise BundleError("another program created this path during training", where=error.where, todo=todo) from None
    folder_swap.put_in_place(new_run, request.out, replace=True)
    return Bundle.open(request.out)


def discard(request: TrainRequest) -> None:
    """Remove the work folder of a finished training, and the replaced run that it may hold."""
    remove_work_folder(request.work)


def discard_finished(request: TrainRequest) -> None:
    """Remove a work folder that a killed process left: its run is already at `out`, or no training was started in it.

    A folder with an unreadable job stays: it belongs to another version and another training.
    """
    both_exist = is_work_folder(request.work) and request.out.exists()
    with suppress(BundleError):
        if both_exist and (not request.started or read_job(request).id == run_id(request.out)):
            discard(request)


def manifest_of(request: TrainRequest, job: Job, progress: LoopProgress) -> Manifest:
    """Build the manifest of the finished run."""
    samples = read_split(request.work / "split.csv")
    shares = frequencies(job.labels, samples)
    best = progress.history[progress.best_epoch]
    licence = stated_licence(job, samples)
    if job.teacher:  # the licence of the teachers' images applies to the student too
        licence = both(licence, Licence(job.teacher["license"], job.teacher["attribution"]))
    configured = job.config.get("license")
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
            "data": {
                "kind": job.kind,
                "counts": split_counts(samples),
                "training_prior": shares,
                **{key: value for key in ("reading", "partial", "sources") if (value := getattr(job, key))},
            },
            "teacher": job.teacher,
            "device": job.device,
            "precision": job.precision,
            "best": best,
            "seconds": round(progress.total_seconds, 1),
            "versions": job.versions,
        },
        license=licence.license if configured is None else configured,
        attribution=licence.attribution,
    )


def stated_licence(job: Job, samples: Sequence[Sample]) -> Licence:
    """Return the licence of weights trained on the images: of all sources, of the folder's map, else by the layout."""
    if job.sources:
        return joint_licence([json_io.build(source, DataSource, "job.json") for source in job.sources])
    by_layout, stated = licence_of(job.kind, samples), job.reading.get("map", {})
    return Licence(stated.get("license") or by_layout.license, stated.get("attribution") or by_layout.attribution)


def frequencies(labels: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
    """Return label -> share of the training images (0..1) whose class is one of the labels."""
    training = [sample.label for sample in samples if sample.split == "train" and sample.label in labels]
    return {label: training.count(label) / len(training) for label in labels}


def split_counts(samples: tuple[Sample, ...]) -> dict[str, dict[str, int]]:
    """Return split -> label -> number of images."""
    labels = sorted({sample.label for sample in samples})
    return {
        split: {label: sum(s.split == split and s.label == label for s in samples) for label in labels}
        for split in SPLITS
    }
