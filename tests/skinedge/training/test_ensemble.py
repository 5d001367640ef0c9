"""Several teachers: their mean, their record, their licences, and a resumed student."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skinedge.core.errors import BundleError, ConfigError
from skinedge.data.licensing import Licence, both
from skinedge.publish import package
from skinedge.run import model_card
from skinedge.run.config import TrainConfig, load_config
from skinedge.run.run_directory import Bundle
from skinedge.training.ensemble import Ensemble, describe_teachers, load_teachers, open_teachers
from skinedge.training.job import TrainRequest
from skinedge.training.merge import merge
from skinedge.training.teacher import Teacher
from skinedge.training.train import train

STUDENT = TrainConfig(backbone="test_efficientnet", weights="random", image_size=32, epochs=1, precision="fp32")


@pytest.fixture(scope="module")
def teachers(trained_run: Path, synthetic_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two merged runs on one split, of other networks and sizes."""
    folder = tmp_path_factory.mktemp("teachers")
    first = merge(Bundle.open(Path(shutil.copytree(trained_run, folder / "first")))).root
    config = replace(STUDENT, split=str(first / "split.csv"), seed=3)
    second = merge(train(TrainRequest(synthetic_images, folder / "second", config, device="cpu"))).root
    return first, second


def config_of(teachers: tuple[Path, ...]) -> TrainConfig:
    return replace(STUDENT, split=str(teachers[0] / "split.csv"), teacher=tuple(map(str, teachers)))


def test_the_mean_is_that_of_the_members_probabilities(teachers: tuple[Path, Path]) -> None:
    config = config_of(teachers)
    labels = Bundle.open(teachers[0]).manifest.labels
    opened = open_teachers(config, labels, synthetic=True)
    prior = dict.fromkeys(labels, 1 / len(labels))
    ensemble = load_teachers(config, describe_teachers(opened), prior, "cpu")
    assert isinstance(ensemble, Ensemble) and len(ensemble.members) == 2
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (4, 3, 32, 32)).astype(np.float32))
    members = [member.logits(pixels).double().softmax(dim=1) for member in ensemble.members]
    expected = (members[0] + members[1]) / 2
    assert torch.allclose(ensemble.logits(pixels).double().softmax(dim=1), expected, atol=1e-6)
    assert not torch.allclose(members[0], members[1], atol=1e-2), "the members agree: the test would not notice"
    assert not ensemble.logits(pixels).requires_grad


def test_one_teacher_in_a_list_is_that_teacher(teachers: tuple[Path, Path]) -> None:
    config = config_of(teachers[:1])
    labels = Bundle.open(teachers[0]).manifest.labels
    recorded = describe_teachers(open_teachers(config, labels, synthetic=True))
    assert recorded == describe_teachers(
        open_teachers(replace(config, teacher=str(teachers[0])), labels, synthetic=True)
    )
    assert "members" not in recorded
    prior = dict.fromkeys(labels, 1 / len(labels))
    assert isinstance(load_teachers(config, recorded, prior, "cpu"), Teacher)
    assert describe_teachers(()) == {} and load_teachers(STUDENT, {}, prior, "cpu") is None


def test_a_student_of_two_names_both_and_resumes_with_the_same_only(
    teachers: tuple[Path, Path], synthetic_images: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(
        f'backbone = "test_efficientnet"\nweights = "random"\nimage_size = 32\nepochs = 1\nprecision = "fp32"\n'
        f"split = '{teachers[0] / 'split.csv'}'\nteacher = ['{teachers[0]}', '{teachers[1]}']\n"
    )
    config = load_config(tmp_path / "config.toml")
    assert config == config_of(teachers)
    request = TrainRequest(synthetic_images, tmp_path / "run", config, device="cpu")
    bundle = train(request)
    recorded = bundle.manifest.training["teacher"]
    assert [member["name"] for member in recorded["members"]] == ["trained", "second"]
    assert recorded["name"] == "trained, second"
    card = model_card.training(bundle.manifest)
    assert "Taught by the mean of the runs trained: its merged network, sha256" in card and "; second: its" in card
    assert package.without_places(bundle.manifest.training)["config"]["teacher"] == ["first", "second"]
    assert json.loads((bundle.root / "manifest.json").read_text())["training"]["config"]["teacher"] == list(
        map(str, teachers)
    )
    assert train(replace(request, resume=True)).manifest.id == bundle.manifest.id
    with pytest.raises(BundleError, match="other settings: teacher"):
        train(replace(request, resume=True, config=replace(config, teacher=config.teacher[::-1])))


def test_a_teacher_that_is_named_twice_is_refused(
    teachers: tuple[Path, Path], synthetic_images: Path, tmp_path: Path
) -> None:
    config = config_of((teachers[0], teachers[0]))
    with pytest.raises(ConfigError, match="named twice"):
        train(TrainRequest(synthetic_images, tmp_path / "run", config, device="cpu"))
    assert not list(tmp_path.iterdir())


def test_the_licences_of_all_works_apply() -> None:
    joint = both(Licence("CC0-1.0", "a"), Licence("CC-BY-NC-4.0 AND CC0-1.0", "b; a"), Licence("", "c"))
    assert joint == Licence("CC-BY-NC-4.0 AND CC0-1.0", "a; b; c")
    assert both(Licence(), Licence()) == Licence()
