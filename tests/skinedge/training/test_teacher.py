"""Distillation: the teacher's predictions, the loss, refused teachers, and repeatable training with DoRA."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from examples import manifest
from safetensors.torch import load_file
from typer.testing import CliRunner

from skinedge.cli import app
from skinedge.core.errors import BundleError, ConfigError, DataError, SkinedgeError
from skinedge.core.files import sha256
from skinedge.core.preprocess import prepare
from skinedge.data.dataset import Sample, write_split
from skinedge.publish import package
from skinedge.run import model_card
from skinedge.run.config import DistillationSettings, TrainConfig, load_config
from skinedge.run.run_directory import Bundle
from skinedge.training import teacher, train_loop
from skinedge.training.distributed import ALONE, Processes
from skinedge.training.job import TrainRequest, create_job
from skinedge.training.merge import merge
from skinedge.training.train import build_problem, load_network, train
from skinedge.training.train_step import Problem, batch_gradients, share_gradients

CONFIG = """
backbone = "test_efficientnet"
weights = "random"
image_size = 32
epochs = 2
batch_size = 16
precision = "fp32"
checkpoint_minutes = 0.0
split = "{split}"
teacher = "{teacher}"
[lora]
dora = true
rank_stabilized = true
[distillation]
weight = 0.7
"""


@pytest.fixture(scope="module")
def teacher_run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged run at 64 px with EfficientNet-Lite's normalization; the student's size and normalization differ."""
    out = Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("teacher") / "run"))
    return merge(Bundle.open(out)).root


@pytest.fixture(scope="module")
def config_file(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "student.toml"
    path.write_text(CONFIG.format(split=teacher_run / "split.csv", teacher=teacher_run))
    return path


@pytest.fixture(scope="module")
def student_run(config_file: Path, synthetic_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained with the teacher."""
    out = tmp_path_factory.mktemp("student") / "run"
    return train(TrainRequest(synthetic_images, out, load_config(config_file), device="cpu")).root


def loaded_teacher(run: Path, **prior: float) -> teacher.Teacher:
    """Load the teacher for a student with this class prior; default: uniform."""
    bundle = Bundle.open(run)
    labels = bundle.manifest.labels
    student_prior = prior or dict.fromkeys(labels, 1 / len(labels))
    return teacher.load_teacher(str(run), teacher.describe_teacher(bundle), student_prior, "cpu")


def largest_difference(run: Path, other: Path) -> float:
    """Return the largest difference between two runs' trained weights."""
    weights, others = (load_file(path / "adapter" / "adapter_model.safetensors") for path in (run, other))
    assert weights.keys() == others.keys() and any("magnitude" in name for name in weights)
    return max(float((weights[name] - others[name]).abs().max()) for name in weights)


def test_the_teachers_logits_are_those_of_its_merged_network_with_its_own_preprocessing(teacher_run: Path) -> None:
    """Oracle: timm's network with the merged weights, normalized by hand."""
    rule = Bundle.open(teacher_run).manifest.preprocess
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=7).eval()
    plain.load_state_dict(load_file(teacher_run / "model.safetensors"))
    pixels = 255 * torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = plain((pixels - torch.tensor(rule.mean)[:, None, None]) / torch.tensor(rule.std)[:, None, None])
    logits = loaded_teacher(teacher_run).logits(pixels)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert not logits.is_inference() and not logits.requires_grad
    assert loaded_teacher(teacher_run).logits(pixels[:, :, :32, :32]).shape == (3, 7)


@pytest.mark.parametrize("side", [32, 96])
def test_resizing_for_the_teacher_matches_preprocessing(side: int) -> None:
    """Oracle: the preprocessing rule (Pillow), which rounds each of its two passes."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = torch.from_numpy(noise).permute(2, 0, 1)[None].float()
    resized = teacher.resize(pixels, side)[0].permute(1, 2, 0).numpy()
    assert np.abs(resized - prepare(noise, side)).max() <= 1.01
    assert teacher.resize(pixels, 64) is pixels


def test_the_teachers_logits_are_shifted_to_the_students_prior(teacher_run: Path) -> None:
    """Oracle: Bayes' rule on the teacher's probabilities, which assume a uniform prior."""
    manifest = Bundle.open(teacher_run).manifest
    assert set(manifest.class_prior.values()) == {1 / 7}
    shares = dict(zip(manifest.labels, np.arange(1, 8) / 28, strict=True))
    pixels = 255 * torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    uniform, shifted = (
        loaded_teacher(teacher_run, **prior).logits(pixels).softmax(1).numpy() for prior in ({}, shares)
    )
    weighted = uniform * np.array(list(shares.values()))
    np.testing.assert_allclose(shifted, weighted / weighted.sum(axis=1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize(("imbalance", "shifted"), [("logit-adjusted", False), ("none", True)])
def test_the_shift_depends_on_the_prior_that_the_loss_learns(
    teacher_run: Path, config_file: Path, synthetic_images: Path, tmp_path: Path, imbalance: str, shifted: bool
) -> None:
    config = replace(load_config(config_file), imbalance=imbalance)
    request = TrainRequest(synthetic_images, tmp_path / "run", config, device="cpu")
    job, samples = create_job(request, "cpu")
    problem = build_problem(request, job, samples, ALONE)
    assert problem.teacher is not None
    shares = np.bincount(problem.train.labels) / len(problem.train.labels)
    np.testing.assert_allclose(problem.teacher.shift, np.log(7 * shares) * shifted, atol=1e-6)


def test_the_loss_matches_hinton() -> None:
    """Oracle: the formula in numpy."""
    rng = np.random.default_rng(0)
    logits, teacher_logits = rng.normal(0, 3, (5, 4)), rng.normal(0, 3, (5, 4))
    soft = [np.exp(values / 3) / np.exp(values / 3).sum(axis=1, keepdims=True) for values in (teacher_logits, logits)]
    kl = (soft[0] * np.log(soft[0] / soft[1])).sum(axis=1).mean()
    loss = teacher.distillation_loss(
        torch.tensor(2.0), torch.tensor(logits), torch.tensor(teacher_logits), DistillationSettings(0.25, 3.0)
    )
    assert float(loss) == pytest.approx(0.75 * 2.0 + 0.25 * 9 * kl, rel=1e-9)


def test_loss_and_gradient_are_zero_where_the_student_agrees() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    loss = teacher.distillation_loss(torch.zeros(()), logits, logits.detach() + 5, DistillationSettings(weight=1.0))
    loss.backward()
    assert abs(float(loss.detach())) < 1e-12 and float(logits.grad.abs().max()) < 1e-12


@pytest.fixture(scope="module")
def student(config_file: Path, synthetic_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Problem]:
    """An untrained student and its problem, with the distillation loss only."""
    config = replace(load_config(config_file), distillation=DistillationSettings(weight=1.0))
    request = TrainRequest(synthetic_images, tmp_path_factory.mktemp("student") / "run", config, device="cpu")
    job, samples = create_job(request, "cpu")
    return load_network(job), build_problem(request, job, samples, ALONE)


def gradient(network: Any, problem: Problem, micro: int) -> torch.Tensor:
    """Return this process's gradient as one vector."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.zero_grad(set_to_none=True)
    assert share_gradients(network, problem, 0, micro)[1]
    return torch.cat([p.grad.flatten() for p in trainable if p.grad is not None])


def test_two_processes_average_to_the_gradient_of_one(student: tuple[Any, Problem]) -> None:
    network, problem = student
    with torch.no_grad():
        network.get_base_model().get_classifier().weight.normal_(generator=torch.Generator().manual_seed(0))
    full = gradient(network, problem, 16)
    shares = [gradient(network, replace(problem, processes=Processes(rank, 2)), 3) for rank in range(2)]
    assert float(full.abs().max()) > 1e-3
    torch.testing.assert_close(sum(shares) / 2, full, rtol=1e-4, atol=1e-5 * float(full.abs().max()))


def test_training_lowers_the_distillation_loss(student: tuple[Any, Problem]) -> None:
    network, problem = student
    trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    optimizer = train_loop.make_optimizer(trainable, replace(problem.config.optimizer, learning_rate=5e-3))
    losses = []
    for _ in range(30):  # the same batch with the same augmentation
        losses.append(batch_gradients(network, optimizer, problem, 0, 16)[0])
        optimizer.step()
    assert 0 < losses[-1] < 0.4 * losses[0]


def test_the_manifest_names_the_teacher_and_the_run_merges(student_run: Path, teacher_run: Path) -> None:
    bundle = merge(Bundle.open(Path(shutil.copytree(student_run, student_run.with_name("merged")))))
    recorded = bundle.manifest.training["teacher"]
    assert recorded["model_sha256"] == sha256(teacher_run / "model.safetensors")
    assert recorded["id"] == Bundle.open(teacher_run).manifest.id
    adapter = json.loads(bundle.file("adapter/adapter_config.json").read_text())
    assert adapter["use_dora"] and adapter["use_rslora"]
    assert "Taught by the run trained: its merged network" in model_card.training(bundle.manifest)
    packaged = package.without_places(bundle.manifest.training)["config"]
    assert (packaged["teacher"], packaged["split"]) == ("run", "split.csv")


def test_resuming_is_bit_identical_and_refuses_another_teacher(
    student_run: Path, teacher_run: Path, config_file: Path, synthetic_images: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    teacher_copy = Path(shutil.copytree(teacher_run, tmp_path / "teacher"))
    other = merge(Bundle.open(Path(shutil.copytree(student_run, tmp_path / "other"))))
    config = replace(load_config(config_file), teacher=str(teacher_copy))
    request = TrainRequest(synthetic_images, tmp_path / "run", config, device="cpu")
    steps, original = iter(range(5)), train_loop.batch_gradients

    def interrupt_after_five_steps(*arguments: Any) -> tuple[float, int]:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(train_loop, "batch_gradients", interrupt_after_five_steps)
    with pytest.raises(KeyboardInterrupt):
        train(request)
    monkeypatch.undo()
    resume = replace(request, resume=True)
    with pytest.raises(BundleError, match="other settings: teacher"):
        train(replace(resume, config=replace(config, teacher=str(other.root))))
    teacher_copy.rename(tmp_path / "aside")
    other.root.rename(teacher_copy)
    with pytest.raises(BundleError, match="not the teacher that training started with"):
        train(resume)
    shutil.rmtree(teacher_copy)
    (tmp_path / "aside").rename(teacher_copy)
    assert torch.load(request.work / "checkpoint.pt", weights_only=True)["progress"]["step"] == 5
    assert largest_difference(train(resume).root, student_run) == 0


@pytest.mark.parametrize("command", ["train", "run"])
def test_the_teacher_option_overrides_the_config_file(request_: TrainRequest, config_file: Path, command: str) -> None:
    options = [
        "--data",
        str(request_.data),
        "--out",
        str(request_.out),
        "--config",
        str(config_file),
        "--teacher",
        "nowhere",
    ]
    result = CliRunner().invoke(app, [command, *options])
    assert str(result.exception) == "nowhere: no such run directory\nList those there are: skinedge runs"


def training_error(request: TrainRequest, error: type[SkinedgeError], match: str) -> SkinedgeError:
    """Return the error of a training that must leave no files."""
    before = sorted(request.out.parent.iterdir())
    with pytest.raises(error, match=match) as raised:
        train(request)
    assert sorted(request.out.parent.iterdir()) == before
    return raised.value


@pytest.fixture
def request_(config_file: Path, synthetic_images: Path, tmp_path: Path) -> TrainRequest:
    return TrainRequest(synthetic_images, tmp_path / "run", load_config(config_file), device="cpu")


def edited_copy(run: Path, to: Path, **changes: Any) -> str:
    """Copy a run and change its manifest."""
    copy = Path(shutil.copytree(run, to))
    manifest_ = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest_, **changes}))
    return str(copy)


def test_a_teacher_with_other_class_order_is_refused(request_: TrainRequest, teacher_run: Path, tmp_path: Path) -> None:
    swapped = ["bcc", "akiec", "bkl", "df", "mel", "nv", "vasc"]
    other = edited_copy(teacher_run, tmp_path / "swapped", labels=swapped)
    error = training_error(
        replace(request_, config=replace(request_.config, teacher=other)), ConfigError, "bcc, akiec, bkl"
    )
    assert "akiec, bcc, bkl" in str(error)


def test_a_teacher_without_merged_network_is_refused(request_: TrainRequest, trained_run: Path, tmp_path: Path) -> None:
    for run, message in ((trained_run, "no merged network"), (tmp_path / "none", "no such run")):
        training_error(replace(request_, config=replace(request_.config, teacher=str(run))), BundleError, message)
    with pytest.raises(BundleError, match="no merged network") as error:
        teacher.merged_run(str(trained_run))
    assert f"skinedge merge {trained_run}" in str(error.value)


def test_a_teacher_with_a_changed_file_is_refused(request_: TrainRequest, teacher_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(teacher_run, tmp_path / "changed"))
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match="does not match the hash"):
        train(replace(request_, config=replace(request_.config, teacher=str(copy))))
    assert not request_.out.exists()


def test_distillation_settings_without_a_teacher_or_out_of_range_are_refused(request_: TrainRequest) -> None:
    training_error(replace(request_, config=replace(request_.config, teacher="")), ConfigError, "without a teacher")
    with pytest.raises(ConfigError, match=r"distillation\.weight is 2"):
        TrainConfig(distillation=DistillationSettings(weight=2.0))
    with pytest.raises(ConfigError, match=r"distillation\.temperature is 0"):
        TrainConfig(distillation=DistillationSettings(temperature=0.0))


def test_a_synthetic_teacher_is_refused_for_real_images(teacher_run: Path) -> None:
    labels = Bundle.open(teacher_run).manifest.labels
    assert teacher.open_teacher(TrainConfig(teacher=str(teacher_run)), labels, synthetic=True) is not None
    with pytest.raises(ConfigError, match="synthetic"):
        teacher.open_teacher(TrainConfig(teacher=str(teacher_run)), labels, synthetic=False)


def test_a_teacher_that_saw_evaluation_images_is_refused(request_: TrainRequest, teacher_run: Path) -> None:
    """Another seed gives another split."""
    error = training_error(replace(request_, config=replace(request_.config, split="", seed=1)), DataError, "has seen")
    assert f"split = '{teacher_run / 'split.csv'}'" in str(error)


def run_with_split(folder: Path, *rows: tuple[str, str, str, str]) -> Bundle:
    """Create a run that holds only a split: rows of (image, lesion, split, sha256)."""
    folder.mkdir()
    bundle = Bundle.create(folder, manifest())
    with bundle.stage("train", "test", {}) as stage:
        stage.path("split.csv").write_text(write_split(tuple(sample(*row) for row in rows)))
    return bundle.reload()


def sample(image: str, lesion: str, split: str, content: str) -> Sample:
    return Sample(image, f"{image}.jpg", "nv", lesion_id=lesion, split=split, sha256=content)


@pytest.mark.parametrize(
    ("rows", "leaked"),
    [
        ([("a", "", "val", "9")], 1),  # same name
        ([("x", "", "test", "1")], 1),  # same content
        ([("x", "L2", "cal", "9"), ("y", "L2", "test", "8")], 1),  # same lesion; a cal image may stay in cal
        ([("a", "", "train", "1"), ("b", "L2", "val", "2"), ("c", "", "cal", "3"), ("d", "", "test", "4")], 0),
        (
            [("d", "", "train", "4"), ("c", "", "val", "3")],
            0,
        ),  # its test and cal images may train the student
        ([("x", "", "test", ""), ("y", "", "val", "9")], 0),  # empty names match nothing
    ],
)
def test_a_split_that_leaks_from_the_teacher_is_refused(tmp_path: Path, rows: Any, leaked: int) -> None:
    run = run_with_split(
        tmp_path / "t", ("a", "", "train", "1"), ("b", "L2", "cal", "2"), ("c", "", "cal", "3"), ("d", "", "test", "4")
    )
    samples = [sample(*row) for row in rows]
    if not leaked:
        teacher.refuse_leaks(run, samples)
        return
    with pytest.raises(DataError, match=f"has seen {leaked} of this run's evaluation images"):
        teacher.refuse_leaks(run, samples)


def test_a_student_inherits_the_teachers_licence(teacher_run: Path, request_: TrainRequest, tmp_path: Path) -> None:
    licensed = edited_copy(teacher_run, tmp_path / "licensed", license="CC-BY-NC-4.0", attribution="somebody")
    config = replace(request_.config, teacher=licensed, epochs=1)
    trained = train(replace(request_, config=config)).manifest
    assert (trained.license, trained.attribution) == ("CC-BY-NC-4.0", "somebody")
