from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.core.input_format import CONTRACTS
from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import Sample
from skinedge_export.int8.calibration_images import centred_range, choose, load_calibration
from skinedge_export.recipe import CalibrationSettings


def samples(**counts: int) -> list[Sample]:
    train = [
        Sample(f"{label}{i}", f"{label}{i}.png", label, "", "train") for label, n in counts.items() for i in range(n)
    ]
    others = [Sample(f"{split}{i}", "x.png", "nv", "", split) for split in ("val", "cal", "test") for i in range(50)]
    return train + others


def test_only_training_images_are_chosen_evenly_over_the_classes() -> None:
    chosen = choose(samples(nv=500, mel=40, df=3), CalibrationSettings(images=43))
    assert {sample.split for sample in chosen} == {"train"}
    assert Counter(sample.label for sample in chosen) == {"nv": 20, "mel": 20, "df": 3}


def test_the_choice_depends_on_the_seed_and_not_on_the_order() -> None:
    there = samples(nv=90, mel=40)
    chosen = choose(there, CalibrationSettings(images=20, seed=1))
    random.Random(3).shuffle(there)
    assert choose(there, CalibrationSettings(images=20, seed=1)) == chosen
    assert choose(there, CalibrationSettings(images=20, seed=2)) != chosen


def test_all_of_fewer_images_are_taken_but_seven_are_too_few() -> None:
    assert len(choose(samples(nv=6, mel=3), CalibrationSettings(images=128))) == 9
    with pytest.raises(DataError, match="at least 8 training images"):
        choose(samples(nv=5, mel=2), CalibrationSettings())


def write(root: Path, count: int, blank: int) -> list[Sample]:
    made = []
    for i in range(count):
        pixels = (
            np.zeros((20, 24, 3), np.uint8) if i < blank else np.random.default_rng(i).integers(0, 255, (20, 24, 3))
        )
        path = root / f"{i}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        made.append(Sample(f"id{i}", path.name, "nv", "", "train", hashlib.sha256(path.read_bytes()).hexdigest()))
    return made


def test_loading_gives_prepared_pixels_and_a_hash_of_the_ids(tmp_path: Path) -> None:
    made = write(tmp_path, 9, 0)
    loaded = load_calibration(tmp_path, made, Preprocess(16))
    assert loaded.pixels.shape == (9, 16, 16, 3) and loaded.pixels.dtype == np.uint8
    assert loaded.ids_sha256 == load_calibration(tmp_path, made[::-1], Preprocess(16)).ids_sha256
    assert loaded.ids_sha256 == hashlib.sha256("\n".join(f"id{i}" for i in range(9)).encode()).hexdigest()


def test_black_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="10 of 10 calibration images are blank"):
        load_calibration(tmp_path, write(tmp_path, 10, 10), Preprocess(16))


def test_copies_of_a_few_images_are_refused(tmp_path: Path) -> None:
    made = write(tmp_path, 7, 0)
    copies = [replace(made[0], image_id=f"copy{number}") for number in range(3)]
    with pytest.raises(DataError, match="the 10 calibration images are 7 different pictures"):
        load_calibration(tmp_path, [*made, *copies], Preprocess(16))


def test_another_image_of_the_same_name_is_refused(tmp_path: Path) -> None:
    made = write(tmp_path, 9, 0)
    Image.fromarray(np.full((20, 20, 3), 7, np.uint8)).save(tmp_path / "3.png")
    with pytest.raises(DataError, match="not the one recorded in the run"):
        load_calibration(tmp_path, made, Preprocess(16))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    made = write(tmp_path, 9, 0)
    (tmp_path / "4.png").unlink()
    with pytest.raises(DataError, match=r"4\.png"):
        load_calibration(tmp_path, made, Preprocess(16))


def test_the_range_of_centred_pixels_is_known() -> None:
    assert centred_range(Preprocess(8), CONTRACTS["pixels"]) == (-127, 128)
    assert centred_range(Preprocess(8, mean=(100, 110, 120)), CONTRACTS["pixels"]) == (-120, 155)
