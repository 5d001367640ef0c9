"""Distillation: what the teacher answers, what its answers weigh, what it may not teach, and that a taught training
with DoRA is as repeatable as any other."""

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
from skinedge.training.train import build_problem, load, train
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
def master(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged run at 64 px, normalized as EfficientNet-Lite is: the student's size and rule are other ones."""
    out = Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("master") / "run"))
    return merge(Bundle.open(out)).root


@pytest.fixture(scope="module")
def config_file(master: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "taught.toml"
    path.write_text(CONFIG.format(split=master / "split.csv", teacher=master))
    return path


@pytest.fixture(scope="module")
def taught(config_file: Path, synthetic_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's run."""
    out = tmp_path_factory.mktemp("taught") / "run"
    return train(TrainRequest(synthetic_images, out, load_config(config_file), device="cpu")).root


def learned(run: Path, **shares: float) -> teacher.Teacher:
    """The teacher for a student whose logits assume these class shares; uniform ones without any."""
    found = Bundle.open(run)
    labels = found.manifest.labels
    return teacher.load_teacher(
        str(run), teacher.described(found), shares or dict.fromkeys(labels, 1 / len(labels)), "cpu"
    )


def apart(one: Path, other: Path) -> float:
    """Largest difference between two runs' trained weights."""
    mine, theirs = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, other))
    assert mine.keys() == theirs.keys() and any("magnitude" in name for name in mine)
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


def test_the_teacher_answers_as_its_merged_network_under_its_own_rule(master: Path) -> None:
    """Oracle: timm's network with the merged weights, normalized by hand."""
    rule = Bundle.open(master).manifest.preprocess
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=7).eval()
    plain.load_state_dict(load_file(master / "model.safetensors"))
    pixels = 255 * torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = plain((pixels - torch.tensor(rule.mean)[:, None, None]) / torch.tensor(rule.std)[:, None, None])
    found = learned(master).logits(pixels)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not found.is_inference() and not found.requires_grad
    assert learned(master).logits(pixels[:, :, :32, :32]).shape == (3, 7)


@pytest.mark.parametrize("side", [32, 96])
def test_a_teacher_of_another_size_sees_what_it_would_be_shown(side: int) -> None:
    """Oracle: the preprocessing rule (Pillow), which rounds each of its two passes."""
    rough = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = torch.from_numpy(rough).permute(2, 0, 1)[None].float()
    found = teacher.resized(pixels, side)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - prepare(rough, side)).max() <= 1.01
    assert teacher.resized(pixels, 64) is pixels


def test_the_teachers_answers_are_moved_to_the_prior_that_the_student_learns(master: Path) -> None:
    """Oracle: Bayes' rule on its probabilities, which hold for a uniform prior."""
    known = Bundle.open(master).manifest
    assert set(known.class_prior.values()) == {1 / 7}
    shares = dict(zip(known.labels, np.arange(1, 8) / 28, strict=True))
    pixels = 255 * torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    even, moved = (learned(master, **prior).logits(pixels).softmax(1).numpy() for prior in ({}, shares))
    weighted = even * np.array(list(shares.values()))
    np.testing.assert_allclose(moved, weighted / weighted.sum(axis=1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize(("imbalance", "moved"), [("logit-adjusted", False), ("none", True)])
def test_training_asks_for_the_prior_of_its_own_loss(
    master: Path, config_file: Path, synthetic_images: Path, tmp_path: Path, imbalance: str, moved: bool
) -> None:
    config = replace(load_config(config_file), imbalance=imbalance)
    request = TrainRequest(synthetic_images, tmp_path / "run", config, device="cpu")
    job, samples = create_job(request, "cpu")
    problem = build_problem(request, job, samples, ALONE)
    assert problem.teacher is not None
    shares = np.bincount(problem.train.labels) / len(problem.train.labels)
    np.testing.assert_allclose(problem.teacher.shift, np.log(7 * shares) * moved, atol=1e-6)


def test_the_loss_is_hintons() -> None:
    """Oracle: the sums written out in numpy."""
    rng = np.random.default_rng(0)
    logits, answers = rng.normal(0, 3, (5, 4)), rng.normal(0, 3, (5, 4))
    soft = [np.exp(values / 3) / np.exp(values / 3).sum(axis=1, keepdims=True) for values in (answers, logits)]
    kl = (soft[0] * np.log(soft[0] / soft[1])).sum(axis=1).mean()
    ours = teacher.distilled(
        torch.tensor(2.0), torch.tensor(logits), torch.tensor(answers), DistillationSettings(0.25, 3.0)
    )
    assert float(ours) == pytest.approx(0.75 * 2.0 + 0.25 * 9 * kl, rel=1e-9)


def test_a_student_that_agrees_has_nothing_to_learn() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    alike = teacher.distilled(torch.zeros(()), logits, logits.detach() + 5, DistillationSettings(weight=1.0))
    alike.backward()
    assert abs(float(alike.detach())) < 1e-12 and float(logits.grad.abs().max()) < 1e-12


@pytest.fixture(scope="module")
def posed(config_file: Path, synthetic_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Problem]:
    """A student as training begins, whose only loss is its teacher."""
    config = replace(load_config(config_file), distillation=DistillationSettings(weight=1.0))
    request = TrainRequest(synthetic_images, tmp_path_factory.mktemp("posed") / "run", config, device="cpu")
    job, samples = create_job(request, "cpu")
    return load(job), build_problem(request, job, samples, ALONE)


def gradient(network: Any, problem: Problem, micro: int) -> torch.Tensor:
    """This process's, as one vector."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.zero_grad(set_to_none=True)
    assert share_gradients(network, problem, 0, micro)[1]
    return torch.cat([p.grad.flatten() for p in trained if p.grad is not None])


def test_two_processes_are_taught_what_one_is(posed: tuple[Any, Problem]) -> None:
    network, problem = posed
    with torch.no_grad():
        network.get_base_model().get_classifier().weight.normal_(generator=torch.Generator().manual_seed(0))
    whole = gradient(network, problem, 16)
    parts = [gradient(network, replace(problem, processes=Processes(rank, 2)), 3) for rank in range(2)]
    assert float(whole.abs().max()) > 1e-3
    torch.testing.assert_close(sum(parts) / 2, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def test_a_student_comes_closer_to_its_teacher(posed: tuple[Any, Problem]) -> None:
    network, problem = posed
    trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    optimizer = train_loop.make_optimizer(trainable, replace(problem.config.optimizer, learning_rate=5e-3))
    losses = []
    for _ in range(30):  # the same batch, augmented alike
        losses.append(batch_gradients(network, optimizer, problem, 0, 16)[0])
        optimizer.step()
    assert 0 < losses[-1] < 0.4 * losses[0]


def test_the_run_names_its_teacher_and_merges(taught: Path, master: Path) -> None:
    bundle = merge(Bundle.open(Path(shutil.copytree(taught, taught.with_name("merged")))))
    said = bundle.manifest.training["teacher"]
    assert said["model_sha256"] == sha256(master / "model.safetensors")
    assert said["id"] == Bundle.open(master).manifest.id
    adapter = json.loads(bundle.file("adapter/adapter_config.json").read_text())
    assert adapter["use_dora"] and adapter["use_rslora"]
    assert "Taught by the run trained: its merged network" in model_card.training(bundle.manifest)
    packed = package.without_places(bundle.manifest.training)["config"]
    assert (packed["teacher"], packed["split"]) == ("run", "split.csv")


def test_an_interrupted_student_goes_on_to_the_same_bits_and_with_no_other_teacher(
    taught: Path, master: Path, config_file: Path, synthetic_images: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    tutor = Path(shutil.copytree(master, tmp_path / "tutor"))
    other = merge(Bundle.open(Path(shutil.copytree(taught, tmp_path / "other"))))
    config = replace(load_config(config_file), teacher=str(tutor))
    request = TrainRequest(synthetic_images, tmp_path / "run", config, device="cpu")
    left, real = iter(range(5)), train_loop.batch_gradients

    def interrupted(*arguments: Any) -> tuple[float, int]:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(train_loop, "batch_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(request)
    monkeypatch.undo()
    again = replace(request, resume=True)
    with pytest.raises(BundleError, match="other settings: teacher"):
        train(replace(again, config=replace(config, teacher=str(other.root))))
    tutor.rename(tmp_path / "aside")
    other.root.rename(tutor)
    with pytest.raises(BundleError, match="not the one that training began with"):
        train(again)
    shutil.rmtree(tutor)
    (tmp_path / "aside").rename(tutor)
    assert torch.load(request.work / "checkpoint.pt", weights_only=True)["progress"]["step"] == 5
    assert apart(train(again).root, taught) == 0


@pytest.mark.parametrize("command", ["train", "run"])
def test_the_command_line_names_the_teacher(asked: TrainRequest, config_file: Path, command: str) -> None:
    """Over what the config file says."""
    options = ["--data", str(asked.data), "--out", str(asked.out), "--config", str(config_file), "--teacher", "nowhere"]
    found = CliRunner().invoke(app, [command, *options])
    assert str(found.exception) == "nowhere: no such run directory"


def fails(request: TrainRequest, error: type[SkinedgeError], match: str) -> SkinedgeError:
    """The error of a training that must leave nothing behind."""
    before = sorted(request.out.parent.iterdir())
    with pytest.raises(error, match=match) as found:
        train(request)
    assert sorted(request.out.parent.iterdir()) == before
    return found.value


@pytest.fixture
def asked(config_file: Path, synthetic_images: Path, tmp_path: Path) -> TrainRequest:
    return TrainRequest(synthetic_images, tmp_path / "run", load_config(config_file), device="cpu")


def edited(run: Path, to: Path, **changes: Any) -> str:
    """A copy of a run whose manifest says something else."""
    copy = Path(shutil.copytree(run, to))
    said = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**said, **changes}))
    return str(copy)


def test_other_classes_or_another_order_are_refused(asked: TrainRequest, master: Path, tmp_path: Path) -> None:
    swapped = ["bcc", "akiec", "bkl", "df", "mel", "nv", "vasc"]
    other = edited(master, tmp_path / "swapped", labels=swapped)
    error = fails(replace(asked, config=replace(asked.config, teacher=other)), ConfigError, "bcc, akiec, bkl")
    assert "akiec, bcc, bkl" in str(error)


def test_what_is_no_merged_run_is_refused(asked: TrainRequest, trained_run: Path, tmp_path: Path) -> None:
    for teacher_, message in ((trained_run, "no merged network"), (tmp_path / "none", "no such run")):
        fails(replace(asked, config=replace(asked.config, teacher=str(teacher_))), BundleError, message)
    with pytest.raises(BundleError, match="no merged network") as error:
        teacher.merged_run(str(trained_run))
    assert f"skinedge merge {trained_run}" in str(error.value)


def test_a_changed_network_is_refused(asked: TrainRequest, master: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(master, tmp_path / "changed"))
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match="does not match the hash"):
        train(replace(asked, config=replace(asked.config, teacher=str(copy))))
    assert not asked.out.exists()


def test_settings_of_distillation_without_a_teacher_are_refused(asked: TrainRequest) -> None:
    fails(replace(asked, config=replace(asked.config, teacher="")), ConfigError, "without a teacher")
    with pytest.raises(ConfigError, match=r"distillation\.weight is 2"):
        TrainConfig(distillation=DistillationSettings(weight=2.0))
    with pytest.raises(ConfigError, match=r"distillation\.temperature is 0"):
        TrainConfig(distillation=DistillationSettings(temperature=0.0))


def test_drawn_images_do_not_teach_about_real_ones(master: Path) -> None:
    labels = Bundle.open(master).manifest.labels
    assert teacher.chosen(TrainConfig(teacher=str(master)), labels, synthetic=True) is not None
    with pytest.raises(ConfigError, match="synthetic"):
        teacher.chosen(TrainConfig(teacher=str(master)), labels, synthetic=False)


def test_a_teacher_that_saw_what_judges_the_student_is_refused(asked: TrainRequest, master: Path) -> None:
    """Another seed divides otherwise."""
    error = fails(replace(asked, config=replace(asked.config, split="", seed=1)), DataError, "has seen")
    assert f"split = '{master / 'split.csv'}'" in str(error)


def divided(folder: Path, *rows: tuple[str, str, str, str]) -> Bundle:
    """A run of nothing but a split: (image, lesion, split, bytes)."""
    folder.mkdir()
    bundle = Bundle.create(folder, manifest())
    with bundle.stage("train", "test", {}) as stage:
        stage.path("split.csv").write_text(write_split(tuple(sample(*row) for row in rows)))
    return bundle.reload()


def sample(image: str, lesion: str, split: str, content: str) -> Sample:
    return Sample(image, f"{image}.jpg", "nv", lesion_id=lesion, split=split, sha256=content)


@pytest.mark.parametrize(
    ("mine", "seen"),
    [
        ([("a", "", "val", "9")], 1),  # by its name
        ([("x", "", "test", "1")], 1),  # by its bytes
        ([("x", "L2", "cal", "9"), ("y", "L2", "test", "8")], 1),  # by its lesion; what calibrated may calibrate again
        ([("a", "", "train", "1"), ("b", "L2", "val", "2"), ("c", "", "cal", "3"), ("d", "", "test", "4")], 0),
        ([("d", "", "train", "4"), ("c", "", "val", "3")], 0),  # what only judged the teacher may teach the student
        ([("x", "", "test", ""), ("y", "", "val", "9")], 0),  # without a name for a lesion none is shared
    ],
)
def test_an_image_or_its_lesion_does_not_come_to_judge_later(tmp_path: Path, mine: Any, seen: int) -> None:
    run = divided(
        tmp_path / "t", ("a", "", "train", "1"), ("b", "L2", "cal", "2"), ("c", "", "cal", "3"), ("d", "", "test", "4")
    )
    samples = [sample(*row) for row in mine]
    if not seen:
        teacher.refuse_leaks(run, samples)
        return
    with pytest.raises(DataError, match=f"has seen {seen} of the images"):
        teacher.refuse_leaks(run, samples)


def test_a_student_has_the_terms_of_its_teacher(master: Path, asked: TrainRequest, tmp_path: Path) -> None:
    tutor = edited(master, tmp_path / "tutor", license="CC-BY-NC-4.0", attribution="somebody")
    config = replace(asked.config, teacher=tutor, epochs=1)
    found = train(replace(asked, config=config)).manifest
    assert (found.license, found.attribution) == ("CC-BY-NC-4.0", "somebody")
