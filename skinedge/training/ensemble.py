"""One or several teachers; several teach the mean of their probabilities (Hinton et al. 2015, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from skinedge.core.errors import ConfigError
from skinedge.core.json_io import digest
from skinedge.data.licensing import Licence, both
from skinedge.run.config import TrainConfig
from skinedge.run.run_directory import Bundle
from skinedge.training.teacher import Teacher, describe_teacher, load_teacher, open_teacher

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Ensemble:
    """Several teachers of the same classes; their sizes and normalizations may differ."""

    members: tuple[Teacher, ...]

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict a batch as `Teacher.logits`: the log of the mean of the members' probabilities, (N, C) float32."""
        import torch

        log_p = torch.stack([member.logits(pixels).log_softmax(dim=1) for member in self.members])
        return log_p.logsumexp(dim=0) - math.log(len(self.members))


def teacher_runs(config: TrainConfig) -> tuple[str, ...]:
    """Return the runs of the teachers, () without one. Raises: ConfigError for a run that is named twice."""
    runs = (config.teacher,) if isinstance(config.teacher, str) else config.teacher
    if len(set(runs)) < len(runs):
        raise ConfigError("a teacher is named twice", todo="Name each run once: every teacher has one vote.")
    return tuple(filter(None, runs))


def open_teachers(config: TrainConfig, labels: Sequence[str], synthetic: bool) -> tuple[Bundle, ...]:
    """Open every teacher. Raises: as `open_teacher`."""
    runs = teacher_runs(config)
    if not runs:
        open_teacher(replace(config, teacher=""), labels, synthetic)  # refuses [distillation] without a teacher
    opened = (open_teacher(replace(config, teacher=run), labels, synthetic) for run in runs)
    return tuple(bundle for bundle in opened if bundle is not None)


def describe_teachers(teachers: Sequence[Bundle]) -> dict[str, Any]:
    """Describe the teachers for job.json and the manifest: `describe_teacher` of one, {} of none.

    Of several: their names, joint licence and a digest of their networks, and under `members` each by itself.
    """
    members = [describe_teacher(teacher) for teacher in teachers]
    if len(members) <= 1:
        return dict(members[0]) if members else {}
    licence = both(*(Licence(member["license"], member["attribution"]) for member in members))
    return {
        "id": "+".join(member["id"] for member in members),
        "name": ", ".join(member["name"] for member in members),
        "model_sha256": digest([member["model_sha256"] for member in members]),
        "license": licence.license,
        "attribution": licence.attribution,
        "members": members,
    }


def load_teachers(
    config: TrainConfig, recorded: Mapping[str, Any], student_prior: Mapping[str, float], device: str
) -> Teacher | Ensemble | None:
    """Load the teachers onto `device`. recorded: `describe_teachers`. Raises: as `load_teacher`."""
    if not recorded:
        return None
    members = recorded.get("members", [recorded])
    loaded = tuple(
        load_teacher(run, member, student_prior, device)
        for run, member in zip(teacher_runs(config), members, strict=True)
    )
    return loaded[0] if len(loaded) == 1 else Ensemble(loaded)
