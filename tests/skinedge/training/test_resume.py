"""--resume: refused packages, settings, checkpoints and damaged files; continued trainings."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from skinedge.core.errors import BundleError, DataError
from skinedge.data.dataset import read_split
from skinedge.data.plan import PLAN, PlanRow, to_text
from skinedge.data.read_options import ReadOptions
from skinedge.run.config import TrainConfig
from skinedge.run.run_directory import Bundle
from skinedge.training.checkpoint import Checkpoints
from skinedge.training.job import Job, TrainRequest, create_job, refuse_other_settings, reopen
from skinedge.training.train import train

CONFIG = TrainConfig(backbone="test_efficientnet", weights="random", image_size=32, precision="fp32", epochs=1)


@pytest.fixture
def request_(synthetic_images: Path, tmp_path: Path) -> TrainRequest:
    return TrainRequest(synthetic_images, tmp_path / "run", CONFIG, device="cpu")


@pytest.fixture
def job(request_: TrainRequest) -> Job:
    """The job of a training interrupted before its first step."""
    return create_job(request_, "cpu")[0]


def edit_job(request: TrainRequest, **changes: object) -> None:
    path = request.work / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_another_version_of_a_package_is_named(request_: TrainRequest, job: Job) -> None:
    edit_job(request_, versions={**job.versions, "torch": "1.0", "skinedge": "0.0.1"})
    with pytest.raises(BundleError, match=r"started with skinedge 0\.0\.1 \(now .*torch 1\.0 \(now") as error:
        reopen(request_)
    assert "timm" not in error.value.what and "--force" in str(error.value)


def test_a_job_written_by_another_version_is_refused(request_: TrainRequest, job: Job) -> None:
    edit_job(request_, colour="blue")
    with pytest.raises(BundleError, match="written by another version"):
        reopen(request_)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_job_is_refused(request_: TrainRequest, job: Job, content: bytes) -> None:
    (request_.work / "job.json").write_bytes(content)
    with pytest.raises(BundleError, match="cannot resume"):
        reopen(request_)


def test_a_job_with_other_classes_than_its_split_is_refused(request_: TrainRequest, job: Job) -> None:
    edit_job(request_, labels=[*job.labels[:-1], "other"])
    with pytest.raises(BundleError, match="different classes"):
        reopen(request_)


def saved_checkpoints(folder: Path, fingerprint: str, *steps: int) -> tuple[Checkpoints, dict[str, torch.Tensor]]:
    """Save a checkpoint after each of `steps`, with the step as the value of every weight."""
    weights = {"w": torch.zeros(400, requires_grad=True)}
    checkpoints = Checkpoints(folder, fingerprint)
    for step in steps:
        weights["w"].data.fill_(step)
        checkpoints.save(weights, torch.optim.AdamW(list(weights.values())), {"step": step})
    return checkpoints, weights


@pytest.mark.parametrize("part", ["model", "classes", "version"])
def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path, job: Job, part: str) -> None:
    other = {
        "model": replace(job, config={**job.config, "backbone": "tf_efficientnet_lite0"}),
        "classes": replace(job, labels=(*job.labels[:-1], "other")),
        "version": replace(job, versions={**job.versions, "torch": "1.0"}),
    }[part]
    saved_checkpoints(tmp_path, other.fingerprint, 1)
    weights = {"w": torch.full((400,), 7.0, requires_grad=True)}
    with pytest.raises(BundleError, match="another training job") as error:
        Checkpoints(tmp_path, job.fingerprint).restore(weights, torch.optim.AdamW(list(weights.values())))
    assert error.value.todo and bool((weights["w"] == 7).all())


def test_a_flipped_bit_is_detected_or_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """torch.load alone returns other values for most flipped bits."""
    checkpoints, weights = saved_checkpoints(tmp_path, "job", 1, 2)
    optimizer, newest = torch.optim.AdamW(list(weights.values())), tmp_path / "checkpoint.pt"
    content, rng, detected = newest.read_bytes(), random.Random(0), 0
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        newest.write_bytes(damaged)
        step = checkpoints.restore(weights, optimizer)["step"]
        assert bool((weights["w"] == step).all())
        noted = "checkpoint.pt is damaged; trying the previous one" in capsys.readouterr().err
        assert noted == (step == 1)
        detected += noted
    assert detected > 20


def test_a_file_that_is_not_a_checkpoint_counts_as_damaged(tmp_path: Path) -> None:
    checkpoints, weights = saved_checkpoints(tmp_path, "job", 1, 2)
    torch.save({"w": torch.zeros(3)}, tmp_path / "checkpoint.pt")
    assert checkpoints.restore(weights, torch.optim.AdamW(list(weights.values())))["step"] == 1


def test_resume_continues_an_interrupted_replacement(trained_run: Path, synthetic_images: Path, tmp_path: Path) -> None:
    """Started with --force, which would restart the training if repeated."""
    out = Path(shutil.copytree(trained_run, tmp_path / "run"))
    request = TrainRequest(synthetic_images, out, CONFIG, device="cpu", force=True)
    created, _ = create_job(request, "cpu")
    assert train(replace(request, force=False, resume=True)).manifest.id == created.id
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_settings_missing_from_older_runs_take_their_defaults(tmp_path: Path) -> None:
    recorded = {key: value for key, value in CONFIG.to_dict().items() if key not in ("teacher", "distillation")}
    refuse_other_settings(CONFIG, recorded, tmp_path)
    with pytest.raises(BundleError, match="other settings: teacher\n"):
        refuse_other_settings(replace(CONFIG, teacher="run"), recorded, tmp_path)


def test_a_run_created_meanwhile_is_not_replaced(trained_run: Path, request_: TrainRequest, job: Job) -> None:
    shutil.copytree(trained_run, request_.out)
    with pytest.raises(BundleError, match="other settings"):
        train(replace(request_, resume=True))
    assert Bundle.open(request_.out).manifest.id == Bundle.open(trained_run).manifest.id


@pytest.fixture
def reading(synthetic_images: Path, tmp_path: Path) -> ReadOptions:
    """Options of reading, with a plan that leaves out one image."""
    image = next(path for path in synthetic_images.rglob("*.jpg")).relative_to(synthetic_images).as_posix()
    (tmp_path / "mine.csv").write_text(to_text([PlanRow("leave out", image)]))
    return ReadOptions("metadata.csv", {"label": "dx"}, tmp_path / "mine.csv")


def test_resume_without_a_job_starts_a_training(
    request_: TrainRequest, reading: ReadOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = train(replace(request_, resume=True, reading=reading))
    assert "nothing to resume" in capsys.readouterr().err
    assert bundle.root == request_.out and torch.__version__.startswith(bundle.manifest.training["versions"]["torch"])
    recorded = bundle.manifest.training["data"]["reading"]
    assert (recorded["table"], recorded["columns"]) == ("metadata.csv", {"label": "dx"})
    assert bundle.file(PLAN).read_bytes() == (reading.plan or Path()).read_bytes()
    assert len(read_split(bundle.file("split.csv"))) == 139
    again = replace(request_, resume=True)  # the options need not be repeated
    assert train(again).root == train(replace(again, reading=reading)).root == bundle.root
    with pytest.raises(BundleError, match="read its images with other options: columns\n"):
        train(replace(again, reading=replace(reading, columns={"label": "dx_type"})))


def test_options_of_reading_are_those_of_the_interrupted_training(request_: TrainRequest, reading: ReadOptions) -> None:
    job, samples = create_job(replace(request_, reading=reading), "cpu")
    for request in (request_, replace(request_, reading=reading)):
        again, same = reopen(request)
        assert again.fingerprint == job.fingerprint and len(same) == len(samples) == 139
    (reading.plan or Path()).write_text(to_text([]))
    with pytest.raises(BundleError, match="read its images with other options: plan_sha256\n"):
        reopen(replace(request_, reading=reading))


def test_a_batch_larger_than_the_data_gives_one_step_per_epoch(request_: TrainRequest) -> None:
    config = replace(CONFIG, batch_size=1000, epochs=2)
    history = json.loads((train(replace(request_, config=config)).root / "reports/training.json").read_text())
    assert [row["epoch"] for row in history["history"]] == [1, 2]
    assert all(row["train_loss"] > 0 for row in history["history"])


@pytest.mark.parametrize(
    ("split", "label", "words"),
    [("val", "mel", "no image of mel in val"), ("test", "", "no image in test"), ("cal", "", "no image in cal")],
)
def test_a_reused_split_without_some_images_is_refused_before_training(
    trained_run: Path, request_: TrainRequest, tmp_path: Path, split: str, label: str, words: str
) -> None:
    rows = (trained_run / "split.csv").read_text().splitlines()
    remaining = [row for row in rows if row.split(",")[2:4] != [label or row.split(",")[2], split]]
    assert len(remaining) < len(rows)
    (tmp_path / "split.csv").write_text("\n".join(remaining) + "\n")
    config = replace(CONFIG, split=str(tmp_path / "split.csv"))
    with pytest.raises(DataError, match=words):
        train(replace(request_, config=config))
    assert not request_.work.exists() and not request_.out.exists()
