"""Distillation: train a student on the predictions of a finished run (Hinton et al. 2015, arXiv:1503.02531).

The teacher sees the same augmented batch as the student (Beyer et al. 2022, arXiv:2106.05237), so its predictions
cannot be cached between epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.colour import AS_STORED
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
    """The merged network of a run, used as teacher.

    network: in eval mode, on the training device; preprocess: the teacher's own; shift: (C,) float32, added to its
    logits to move them from the teacher's class prior to the prior that the student learns.
    """

    network: Any
    preprocess: Preprocess
    shift: NDArray[np.float32]

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict a batch: (N, 3, S, S) float32 in 0..255, any S -> (N, C) float32 logits, without gradient."""
        import torch

        with torch.inference_mode():
            inputs = model.normalize(resize(pixels, self.preprocess.size), self.preprocess)
            logits = self.network(inputs.contiguous(memory_format=torch.channels_last)).float()
            shifted = logits + torch.from_numpy(self.shift).to(logits.device)
        return shifted.clone()  # autograd cannot save inference tensors for backward


def resize(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Resize to `size` pixels: bilinear with antialiasing, as `preprocess.prepare`, but without its rounding."""
    from torch.nn import functional

    if pixels.shape[2:] == (size, size):
        return pixels
    return functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True)


def distillation_loss(
    loss: torch.Tensor, logits: torch.Tensor, teacher_logits: torch.Tensor, settings: DistillationSettings
) -> Any:
    """Return (1 - w) loss + w T^2 KL(softmax(teacher_logits / T) || softmax(logits / T)), KL averaged over the batch.

    T^2 keeps the gradient of the KL term at the same scale for any temperature T (Hinton et al. 2015, section 2).
    The label loss may use shifted logits ('logit-adjusted'); the KL term never does.

    Args:
        loss: scalar loss of the labels.
        logits: (N, C) of the student.
        teacher_logits: (N, C), under the student's class prior (see `load_teacher`).
    """
    from torch.nn import functional

    weight, temperature = settings.weight, settings.temperature
    student, teacher = (functional.log_softmax(values / temperature, dim=1) for values in (logits, teacher_logits))
    divergence = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return (1 - weight) * loss + weight * temperature**2 * divergence


def open_teacher(config: TrainConfig, labels: Sequence[str], synthetic: bool) -> Bundle | None:
    """Open the run named by `config.teacher`; None if the config names no teacher.

    Raises: BundleError when the run has no merged network; ConfigError when its classes or their order differ from
        `labels`, or when it was trained on synthetic images and these are real.
    """
    if not config.teacher or not isinstance(config.teacher, str):
        if config.distillation != DistillationSettings():
            raise ConfigError("[distillation] is set without a teacher", todo="Name a teacher: --teacher RUN.")
        return None
    bundle = merged_run(config.teacher)
    teacher_labels = bundle.manifest.labels
    if teacher_labels != tuple(labels):
        raise ConfigError(
            f"the teacher's classes are {', '.join(teacher_labels)}; the images' classes are {', '.join(labels)}",
            where=config.teacher,
            todo="Choose a teacher with the same classes in the same order.",
        )
    if bundle.manifest.synthetic and not synthetic:
        raise ConfigError(
            "the teacher was trained on synthetic images; the training images are real", where=config.teacher
        )
    manifest = bundle.manifest
    note(f"teacher: {manifest.name}, {manifest.training['backbone']} at {manifest.preprocess.size} px")
    if manifest.preprocess.colour == AS_STORED:
        note("  it was trained on colours as stored; here, it sees images with a colour profile converted to sRGB")
    return bundle


def merged_run(run: str) -> Bundle:
    """Open a run that has a merged network. Raises: BundleError without the run or its merged network."""
    bundle = Bundle.open(Path(run))
    if not bundle.has(MODEL):
        raise BundleError("the teacher has no merged network", where=run, todo=f"Create it: skinedge merge {run}")
    return bundle


def refuse_leaks(teacher: Bundle, samples: Sequence[Sample]) -> None:
    """Refuse a split that leaks from the teacher's training into the student's evaluation.

    Splits are ordered by use: train fits weights, val selects them, cal calibrates, test evaluates. No image and no
    lesion may be in a later split for the student than for the teacher.
    Raises: DataError.
    """
    earliest: dict[tuple[str, str], int] = {}
    for sample in read_split(teacher.file("split.csv")):
        for key in identities(sample):
            earliest[key] = min(SPLITS.index(sample.split), earliest.get(key, len(SPLITS)))
    leaked = [
        sample
        for sample in samples
        if min(earliest.get(key, len(SPLITS)) for key in identities(sample)) < SPLITS.index(sample.split)
    ]
    if leaked:
        raise DataError(
            f"the teacher has seen {len(leaked)} of this run's evaluation images or their lesions, "
            f"e.g. {leaked[0].image_id} in {leaked[0].split}",
            where=str(teacher.root),
            todo=f"Reuse the teacher's split: split = {str(teacher.root / 'split.csv')!r} in --config. "
            "Images with the same name count as the same image.",
        )


def identities(sample: Sample) -> list[tuple[str, str]]:
    """List the keys that identify an image in another split: name, content hash and lesion; without empty ones."""
    keys = (("image", sample.image_id), ("bytes", sample.sha256), ("lesion", sample.lesion_id))
    return [key for key in keys if key[1]]


def describe_teacher(teacher: Bundle | None) -> dict[str, str]:
    """Describe the teacher's network and licence for job.json and the manifest; {} without a teacher."""
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


def load_teacher(run: str, recorded: Mapping[str, str], student_prior: Mapping[str, float], device: str) -> Teacher:
    """Load the teacher onto `device`, with its logits shifted to the student's class prior.

    The teacher's merged logits are calibrated for the class prior in its manifest.

    Args:
        run: the teacher's run directory.
        recorded: `describe_teacher` from the start of training.
        student_prior: label -> probability; the prior that the student's unshifted logits learn.

    Raises: BundleError when the network is not the recorded one; ConfigError when it does not fit into the device's
        memory.
    """
    import torch

    bundle = merged_run(run)
    if bundle.model_sha256 != recorded["model_sha256"]:
        raise BundleError("this is not the teacher that training started with", where=run)
    target_prior, teacher_prior = arrays(bundle.manifest.labels, student_prior, bundle.manifest.class_prior)
    if not teacher_prior.all():
        raise BundleError("the teacher's class prior is zero for a class", where=run)
    network = load_merged(bundle).requires_grad_(False)
    try:
        network = network.to(device).to(memory_format=torch.channels_last)
    except torch.OutOfMemoryError:
        raise ConfigError(f"the teacher does not fit into the memory of {device}", where=run) from None
    return Teacher(network, bundle.manifest.preprocess, np.log(target_prior / teacher_prior).astype(np.float32))
