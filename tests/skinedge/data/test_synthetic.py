"""Synthetic images: reproducible, varied, and marked as synthetic."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.errors import BundleError, DataError
from skinedge.core.image_file import load_image
from skinedge.data import synthetic
from skinedge.data.hashing import hash_images
from skinedge.data.readers import read
from skinedge.data.split import split
from skinedge.data.synthetic import LABELS, MARKER, Lesion, draw, draw_photo, write_dataset


@pytest.mark.parametrize("shape", [(64, 64), (57, 83), (301, 40), (32, 32)])
def test_draw_is_deterministic_with_the_requested_shape(shape: tuple[int, int]) -> None:
    pixels = draw(7, 4, *shape)
    assert (pixels.shape, pixels.dtype) == ((*shape, 3), np.uint8)
    np.testing.assert_array_equal(pixels, draw(7, 4, *shape))
    assert pixels.std() > 5


def test_seed_class_and_photo_each_change_the_picture() -> None:
    pictures = [draw(seed, label, 48, 48) for seed in range(3) for label in range(7)]
    pictures += [draw_photo(Lesion(0, 0), photo, 48, 48) for photo in (1, 2)]
    assert len({picture.tobytes() for picture in pictures}) == 23


def test_photos_of_one_lesion_are_similar() -> None:
    """Central colours differ less between photos of one lesion than between lesions."""

    def middle(lesion: int, label: int, photo: int) -> np.ndarray:
        pixels = draw_photo(Lesion(lesion, label), photo, 96, 96)[32:64, 32:64].astype(float)
        colour = pixels.mean(axis=(0, 1))
        return colour / colour.sum()

    same, other = [], []
    for label in range(7):
        for lesion in range(6):
            same.append(np.abs(middle(lesion, label, 0) - middle(lesion, label, 1)).sum())
            other.append(np.abs(middle(lesion, label, 0) - middle(lesion + 1, (label + 3) % 7, 1)).sum())
    assert np.mean(same) < 0.7 * np.mean(other)


@pytest.mark.parametrize("arguments", [(0, 7, 64, 64), (0, -1, 64, 64), (0, 0, 31, 64), (0, 0, 64, 5000)])
def test_label_or_size_out_of_range_is_an_error(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(DataError, match="not"):
        draw(*arguments)


def test_folder_is_read_as_ham10000_marked_synthetic_and_can_be_split(synthetic_images: Path) -> None:
    dataset = read(synthetic_images)
    assert (dataset.kind, dataset.labels, dataset.synthetic, dataset.domain) == ("HAM10000", LABELS, True, "synthetic")
    assert Counter(s.label for s in dataset.samples) == dict.fromkeys(LABELS, 20)
    assert all(s.image_id.startswith("SYNTHETIC_") for s in dataset.samples)
    photos = Counter(s.lesion_id for s in dataset.samples)
    assert max(photos.values()) > 1
    assert len(photos) >= 70
    assert json.loads((synthetic_images / MARKER).read_text())["synthetic"] is True
    assert load_image(synthetic_images / dataset.samples[0].path).shape == (72, 72, 3)
    samples = split(hash_images(dataset), seed=0)
    assert {(s.label, s.split) for s in samples} == {(c, n) for c in LABELS for n in ("train", "val", "cal", "test")}
    with (synthetic_images / "metadata.csv").open() as stream:
        assert {row["dx_type"] for row in csv.DictReader(stream)} == {"synthetic"}


def test_seed_determines_the_dataset(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, 70, 32, seed)
    a, b, c = ({s.image_id: s.sha256 for s in hash_images(read(tmp_path / n)).samples} for n in ("a", "b", "c"))
    assert a == b
    assert not set(a) & set(c)
    assert not set(a.values()) & set(c.values())


def test_existing_folder_is_refused_unless_empty(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_dataset(out, 70, 32, 0)
    before = sorted(p.name for p in out.iterdir())
    with pytest.raises(DataError, match="exists and is not empty"):
        write_dataset(out, 70, 32, 0)
    assert sorted(p.name for p in out.iterdir()) == before == ["SYNTHETIC.json", "images", "metadata.csv"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="exists"):
        write_dataset(tmp_path / "file", 70, 32, 0)


@pytest.mark.parametrize(("count", "size"), [(69, 32), (70, 31), (70, 5000)])
def test_count_and_size_out_of_range(tmp_path: Path, count: int, size: int) -> None:
    with pytest.raises(DataError):
        write_dataset(tmp_path / "out", count, size, 0)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_drawing_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(lesion: synthetic.Lesion, photo: int, height: int, width: int) -> np.ndarray:
        if len(list(tmp_path.rglob("*.jpg"))) == 5:
            raise KeyboardInterrupt
        return draw_photo(lesion, photo, height, width)

    monkeypatch.setattr(synthetic, "draw_photo", stop)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "out", 70, 32, 0)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_reported_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(BundleError, match="disk is full"):
        write_dataset(tmp_path / "out", 70, 32, 0)
    assert list(tmp_path.iterdir()) == []
