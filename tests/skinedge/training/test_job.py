"""The job: from an archive file with custom class names; folders and jobs that are refused or kept."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.errors import BundleError, DataError
from skinedge.core.preprocess import prepare
from skinedge.data.dataset import data_root, load_pixels, write_split
from skinedge.data.readers import read
from skinedge.run.config import TrainConfig, load_config
from skinedge.training import job
from skinedge.training import train as train_module
from skinedge.training.job import TrainRequest, create_job, split_dataset
from skinedge.training.train import examples, open_training, train

CONFIG = TrainConfig(image_size=32, precision="fp32", taxonomy={"black": "melanoma", "brown": "benign"})


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A MedMNIST archive with two classes whose names need the user's taxonomy."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 8), ("val", 8), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez(folder / "mine.npz", **arrays)
    (folder / "labels.toml").write_text('labels = ["brown", "black"]')
    return folder / "mine.npz"


def test_data_root(tmp_path: Path, archive: Path) -> None:
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    assert [data_root(path) for path in (tmp_path, archive, folder)] == [tmp_path, archive.parent, folder]


def test_an_archive_file_is_split_and_its_split_reused(archive: Path, tmp_path: Path) -> None:
    samples = split_dataset(read(archive), CONFIG)
    assert {sample.split for sample in samples} == {"train", "val", "cal", "test"}
    for sample in samples:
        assert load_pixels(data_root(archive), sample.path).shape == (28, 28, 3)
    split_file = tmp_path / "split.csv"
    split_file.write_text(write_split(samples))
    reused = split_dataset(read(archive), replace(CONFIG, split=str(split_file)))
    assert [(s.path, s.split) for s in reused] == [(s.path, s.split) for s in samples]


def test_a_job_is_created_from_an_archive_with_the_users_taxonomy(archive: Path, tmp_path: Path) -> None:
    request = TrainRequest(archive, tmp_path / "run", CONFIG, device="cpu")
    created, samples = create_job(request, "cpu")
    assert Path(created.data_root) == archive.parent.resolve()
    assert (created.labels, created.melanoma) == (("black", "brown"), "black")
    assert created.taxonomy == {"black": "malignant", "brown": "benign"}
    train = examples(request, created, samples, "train")
    first = next(sample for sample in samples if sample.split == "train")
    np.testing.assert_array_equal(train.pixels[0], prepare(load_pixels(archive.parent, first.path), 32))
    assert job.reopen(replace(request, resume=True))[0].fingerprint == created.fingerprint


def test_two_melanoma_classes_are_refused_before_hashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in ("mel", "malignant melanoma", "nv"):
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "data" / label / f"{label}.png")
    monkeypatch.setattr(job, "hash_images", lambda *_: pytest.fail("images were read"))
    with pytest.raises(DataError, match="two classes mean melanoma: mal"):
        create_job(TrainRequest(tmp_path / "data", tmp_path / "run", TrainConfig()), "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("force", [False, True])
def test_an_unrelated_folder_at_the_work_path_is_kept(archive: Path, tmp_path: Path, *, force: bool) -> None:
    request = TrainRequest(archive, tmp_path / "skin", CONFIG, device="cpu", force=force)
    request.work.mkdir()
    (request.work / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"skin\.training: not an unfinished training"):
        train(request)
    assert (request.work / "notes.txt").read_text() == "mine"


def test_a_partly_removed_work_folder_is_identified_and_removed(archive: Path, tmp_path: Path) -> None:
    request = TrainRequest(archive, tmp_path / "run", CONFIG, device="cpu")
    create_job(request, "cpu")
    assert job.is_work_folder(request.work)
    for name in ("job.json", "split.csv"):
        (request.work / name).unlink()
        assert job.is_work_folder(request.work)
    job.remove_work_folder(request.work)
    assert not request.work.exists()


def test_a_job_of_another_version_is_refused_without_force(archive: Path, trained_run: Path, tmp_path: Path) -> None:
    request = TrainRequest(archive, Path(shutil.copytree(trained_run, tmp_path / "run")), CONFIG, device="cpu")
    request.work.mkdir()
    (request.work / "job.json").write_text('{"id": "other"}')
    with pytest.raises(BundleError, match="output exists"), ExitStack() as locks:
        open_training(request, "cpu", locks, 1)
    with pytest.raises(BundleError, match="written by another version"), ExitStack() as locks:
        open_training(replace(request, resume=True), "cpu", locks, 1)
    with ExitStack() as locks:
        open_training(replace(request, force=True), "cpu", locks, 1)
    assert job.read_job(request).kind


def test_a_finished_training_is_kept_if_another_run_appears_at_its_path(
    trained_run: Path, synthetic_images: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(load_config(tiny_config), epochs=1)
    request = TrainRequest(synthetic_images, tmp_path / "run", config, device="cpu")
    original = train_module.create_job

    def create_job_and_other_run(request: TrainRequest, device: str, processes: int) -> object:
        created = original(request, device, processes)
        shutil.copytree(trained_run, request.out)
        return created

    monkeypatch.setattr(train_module, "create_job", create_job_and_other_run)
    with pytest.raises(BundleError, match=r"(?s)another program created this path.*Move it away.*--resume"):
        train(request)
    monkeypatch.undo()
    shutil.move(request.out, tmp_path / "away")
    assert len(train(replace(request, resume=True)).manifest.training["config"]) > 0
