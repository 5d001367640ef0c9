"""Distillation: a finished run teaches another network how it answers (Hinton et al. 2015, arXiv:1503.02531).

The teacher answers each augmented batch as the student sees it (Beyer et al. 2022, arXiv:2106.05237), so nothing of it
can be kept from one epoch to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import BundleError, ConfigError, DataError
from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import SPLITS, Sample, read_split
from skinedge.network import model
from skinedge.run.config import DistillationSettings, TrainConfig
from skinedge.run.manifest import MODEL
from skinedge.run.run_directory import Bundle
from skinedge.stats.calibration import arrays
from skinedge.system.progress import note
from skinedge.training.merge import load_merged

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Teacher:
    """The merged network of a run, as training asks it.

    network: in eval mode, on the training's device; preprocess: its own rule; shift: (C,) float32, what takes its
    logits from the class prior that they assume to the one that the student's come to assume.
    """

    network: Any
    preprocess: Preprocess
    shift: NDArray[np.float32]

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Answers to a batch: (N, 3, S, S) float32 in 0..255, of any S -> (N, C) float32, without gradient."""
        import torch

        with torch.inference_mode():
            inputs = model.normalize(resized(pixels, self.preprocess.size), self.preprocess)
            found = self.network(inputs.contiguous(memory_format=torch.channels_last)).float()
            answers = found + torch.from_numpy(self.shift).to(found.device)
        return answers.clone()  # what inference mode made cannot be kept for a backward pass


def resized(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear with antialiasing, as `preprocess.prepare` does it, without its rounding."""
    from torch.nn import functional

    if pixels.shape[2:] == (size, size):
        return pixels
    return functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)


def distilled(loss: torch.Tensor, logits: torch.Tensor, answers: torch.Tensor, how: DistillationSettings) -> Any:
    """(1 - w) loss + w T^2 KL(softmax(answers / T) || softmax(logits / T)), the latter's mean over the batch.

    T^2 keeps the second term's gradient as large at any temperature T (Hinton et al. 2015, section 2). logits,
    answers: (N, C), the student's and the teacher's, under one class prior (see `load_teacher`): the loss of the labels
    may be of shifted logits ('logit-adjusted'), this term never is.
    """
    from torch.nn import functional

    student, teacher = (functional.log_softmax(values / how.temperature, dim=1) for values in (logits, answers))
    apart = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return (1 - how.weight) * loss + how.weight * how.temperature**2 * apart


def chosen(config: TrainConfig, labels: Sequence[str], synthetic: bool) -> Bundle | None:
    """The run that the config names as teacher; None for none.

    Raises: BundleError when there is no merged network of it; ConfigError when it knows other classes, or classes in
        another order, or learned from drawn images what is to be taught about real ones.
    """
    if not config.teacher:
        if config.distillation != DistillationSettings():
            raise ConfigError("a [distillation] without a teacher", todo="Name one: --teacher RUN.")
        return None
    bundle = merged_run(config.teacher)
    theirs = bundle.manifest.labels
    if theirs != tuple(labels):
        raise ConfigError(
            f"the teacher's classes are {', '.join(theirs)}; those of the images {', '.join(labels)}",
            where=config.teacher,
            todo="A teacher must know the same classes in the same order.",
        )
    if bundle.manifest.synthetic and not synthetic:
        raise ConfigError("the teacher was trained on synthetic images, these are real", where=config.teacher)
    manifest = bundle.manifest
    note(f"teacher: {manifest.name}, {manifest.training['backbone']} at {manifest.preprocess.size} px")
    return bundle


def merged_run(run: str) -> Bundle:
    """Raises: BundleError when there is no run, or it has no merged network."""
    bundle = Bundle.open(Path(run))
    if not bundle.has(MODEL):
        raise BundleError("the teacher has no merged network", where=run, todo=f"Make it: skinedge merge {run}")
    return bundle


def refuse_leaks(teacher: Bundle, samples: Sequence[Sample]) -> None:
    """Raises: DataError when images that made the teacher what it is are to judge what it taught.

    Splits come in an order: train makes weights, val chooses among them, cal calibrates, test judges. No image, and no
    lesion, may be further on in the student's than in the teacher's.
    """
    earliest: dict[tuple[str, str], int] = {}
    for sample in read_split(teacher.file("split.csv")):
        for mark in marks(sample):
            earliest[mark] = min(SPLITS.index(sample.split), earliest.get(mark, len(SPLITS)))
    seen = [
        sample
        for sample in samples
        if min(earliest.get(mark, len(SPLITS)) for mark in marks(sample)) < SPLITS.index(sample.split)
    ]
    if seen:
        raise DataError(
            f"the teacher has seen {len(seen)} of the images that are to judge this run, or their lesions, "
            f"e.g. {seen[0].image_id} of {seen[0].split}",
            where=str(teacher.root),
            todo=f"Divide as for the teacher: split = {str(teacher.root / 'split.csv')!r} in --config. "
            "Images of one name count as one.",
        )


def marks(sample: Sample) -> list[tuple[str, str]]:
    """By what an image is known again: its name, its bytes, its lesion."""
    named = (("image", sample.image_id), ("bytes", sample.sha256), ("lesion", sample.lesion_id))
    return [mark for mark in named if mark[1]]


def described(teacher: Bundle | None) -> dict[str, str]:
    """For the job and the manifest: which network teaches, and on whose terms. {} for none."""
    if teacher is None:
        return {}
    manifest = teacher.manifest
    return {
        "id": manifest.id,
        "name": manifest.name,
        "model_sha256": str(teacher.model_sha256),
        "license": manifest.license,
        "attribution": manifest.attribution,
    }


def load_teacher(run: str, known: Mapping[str, str], learned: Mapping[str, float], device: str) -> Teacher:
    """The teacher, ready to be asked on `device`.

    Its merged logits were calibrated for its manifest's class prior; `learned` (label -> probability) is the prior that
    the student's own, unshifted logits come to assume. Like is compared with like: the teacher's are moved there.
    known: as `described` when training began.
    Raises: BundleError when it is another network than then; ConfigError when `device` has no room for it.
    """
    import torch

    bundle = merged_run(run)
    if bundle.model_sha256 != known["model_sha256"]:
        raise BundleError("the teacher is not the one that training began with", where=run)
    wanted, assumed = arrays(bundle.manifest.labels, learned, bundle.manifest.class_prior)
    if not assumed.all():
        raise BundleError("the teacher gives a class no chance at all", where=run)
    network = load_merged(bundle).requires_grad_(False)
    try:
        network = network.to(device).to(memory_format=torch.channels_last)
    except torch.OutOfMemoryError:
        raise ConfigError(f"the memory of {device} does not hold the teacher", where=run) from None
    return Teacher(network, bundle.manifest.preprocess, np.log(wanted / assumed).astype(np.float32))
