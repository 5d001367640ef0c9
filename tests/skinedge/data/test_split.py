"""Splits have no leaks, contain every class, and depend only on the seed."""

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
from skinedge.data.dataset import SPLITS, Dataset, Sample, read_split, write_split
from skinedge.data.sources.groups import group_samples
from skinedge.data.split import check_against, check_complete, check_split, limit, split


def phash(number: int) -> str:
    """Return a hash that differs in about 128 bits from every other number's."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def sample(number: int, label: str, lesion: str = "", official: str = "") -> Sample:
    digest = hashlib.sha256(f"bytes {number}".encode()).hexdigest()
    return Sample(f"x{number:05d}", f"{label}/x{number:05d}.jpg", label, lesion, official, digest, phash(number))


def dataset(samples: list[Sample]) -> Dataset:
    labels = tuple(sorted({s.label for s in samples}))
    return Dataset(Path(), "class folders", labels, tuple(samples))


def lesions(counts: dict[str, int], seed: int = 0) -> Dataset:
    """Create a dataset with a number of lesions per class, each with one to four photos."""
    rng = random.Random(seed)
    samples: list[Sample] = []
    for label, count in counts.items():
        for lesion in range(count):
            for _ in range(rng.choice((1, 1, 2, 4))):
                samples.append(sample(len(samples), label, f"{label}_{lesion}"))
    return dataset(samples)


def test_lesions_are_not_divided_and_shares_are_met() -> None:
    data = lesions({"mel": 60, "nv": 400, "df": 9})
    samples = split(data, seed=3)
    assert sorted(s.path for s in samples) == sorted(s.path for s in data.samples)
    by_lesion = {s.lesion_id: s.split for s in samples}
    assert all(by_lesion[s.lesion_id] == s.split for s in samples)
    for label, total in Counter(s.label for s in samples).items():
        counts = Counter(s.split for s in samples if s.label == label)
        for name, share in zip(SPLITS, (0.7, 0.1, 0.1, 0.1), strict=True):
            assert abs(counts[name] - share * total) <= max(4, 0.01 * total), (label, name)


def test_split_depends_on_seed_not_file_order() -> None:
    data = lesions({"mel": 30, "nv": 50})
    reordered = replace(data, samples=tuple(reversed(data.samples)))
    assert split(data, 1) == split(reordered, 1)
    assert split(data, 1) != split(data, 2)


def test_smallest_class_that_can_be_split() -> None:
    samples = split(lesions({"mel": 4, "nv": 40}), seed=0)
    assert {s.split for s in samples if s.label == "mel"} == set(SPLITS)


def test_class_with_too_few_lesions_is_refused() -> None:
    with pytest.raises(DataError, match=r"class 'df' has 3 lesions .* needs at least 4"):
        split(lesions({"df": 3, "nv": 40}), seed=0)


def test_exact_and_near_copies_stay_together_without_lesion_ids() -> None:
    samples = [sample(k, "nv" if k % 2 else "mel") for k in range(60)]
    twin = replace(samples[0], image_id="twin", path="mel/twin.jpg", phash=phash(999))
    flipped = hex(int(phash(1), 16) ^ 0b1111)[2:].rjust(64, "0")  # four bits away
    alike = replace(samples[1], image_id="alike", path="nv/alike.jpg", sha256=phash(998), phash=flipped)
    for seed in range(5):
        splits = {s.image_id: s.split for s in split(dataset([*samples, twin, alike]), seed)}
        assert splits["twin"] == splits["x00000"]
        assert splits["alike"] == splits["x00001"]


def test_isic_id_keeps_two_versions_of_an_image_together() -> None:
    a = replace(sample(0, "nv"), path="a/ISIC_0024306.jpg", image_id="a/ISIC_0024306.jpg")
    b = replace(sample(1, "nv"), path="b/ISIC_0024306_downsampled.jpg", image_id="b/ISIC_0024306_downsampled.jpg")
    assert [len(g.samples) for g in group_samples([a, b, sample(2, "nv")])] == [2, 1]


def test_one_image_under_two_labels_is_an_error() -> None:
    samples = [sample(k, "nv" if k % 2 else "mel") for k in range(40)]
    samples[1] = replace(samples[1], sha256=samples[0].sha256)
    with pytest.raises(DataError, match=r"same image has two labels: mel/x00000\.jpg is mel, nv/x00001\.jpg is nv"):
        split(dataset(samples), seed=0)


def official(parts: dict[str, int]) -> Dataset:
    names = [name for name, count in parts.items() for _ in range(count)]
    return dataset([sample(k, "nv" if k % 2 else "mel", official=name) for k, name in enumerate(names)])


def test_official_splits_are_kept_and_val_is_halved() -> None:
    data = official({"train": 60, "val": 40, "test": 20})
    samples = split(data, seed=0)
    for before in data.samples:
        after = next(s for s in samples if s.path == before.path)
        assert after.split in {"train": ("train",), "test": ("test",), "val": ("val", "cal")}[before.split]
    assert Counter(s.split for s in samples) == {"train": 60, "val": 20, "cal": 20, "test": 20}


def test_missing_official_splits_are_taken_from_train() -> None:
    counts = Counter(s.split for s in split(official({"train": 90, "test": 20}), seed=0))
    assert counts["test"] == 20
    assert set(counts) == set(SPLITS)
    assert Counter(s.split for s in split(official({"train": 80, "val": 20}), seed=0))["test"] == 10


def test_lesion_in_two_official_splits_is_an_error() -> None:
    data = official({"train": 60, "val": 40, "test": 20})
    samples = list(data.samples)
    samples[0] = replace(samples[0], lesion_id="HAM_7")
    samples[-2] = replace(samples[-2], lesion_id="HAM_7")
    with pytest.raises(DataError, match="lesion HAM_7 in train and test"):
        split(replace(data, samples=tuple(samples)), seed=0)


@pytest.mark.parametrize("split", SPLITS)
def test_missing_classes_of_a_reused_split_are_listed(split: str) -> None:
    samples = [Sample(f"{s}{label}", "a.png", label, "", s, "") for s in SPLITS for label in ("bcc", "mel", "nv")]
    check_complete(samples, ("bcc", "mel", "nv"), "split.csv")
    without = [sample for sample in samples if sample.split != split]
    with pytest.raises(DataError, match=f"no image in {split}"):
        check_complete(without, ("bcc", "mel", "nv"), "split.csv")
    few = [sample for sample in samples if sample.split != split or sample.label == "mel"]
    with pytest.raises(DataError, match=f"no image of bcc, nv in {split}"):
        check_complete(few, ("bcc", "mel", "nv"), "split.csv")
    with pytest.raises(DataError, match="no image in train; no image in val; no image in cal; no image in test"):
        check_complete([], ("bcc", "mel", "nv"), "split.csv")


def test_check_split_detects_each_kind_of_leak() -> None:
    a, b = (replace(sample(k, "nv"), split=name) for k, name in enumerate(("train", "test")))
    check_split([a, b])
    with pytest.raises(DataError, match="bytes"):
        check_split([a, replace(b, sha256=a.sha256)])
    with pytest.raises(DataError, match="lesion L1"):
        check_split([replace(a, lesion_id="L1"), replace(b, lesion_id="L1")])
    with pytest.raises(DataError, match="image ISIC_0000001"):
        check_split([replace(a, image_id="ISIC_0000001"), replace(b, path="ISIC_0000001.jpg")])
    with pytest.raises(DataError, match="in no split"):
        check_split([replace(a, split="")])


@pytest.mark.parametrize("count", [60, 100, 333])
def test_limit_keeps_complete_lesions_and_all_classes(count: int) -> None:
    data = lesions({"df": 12, "mel": 150, "nv": 600})
    small = limit(data, count, seed=5)
    assert count * 0.9 <= len(small.samples) <= count
    photo_counts = Counter(s.lesion_id for s in data.samples)
    assert all(photo_counts[lesion] == n for lesion, n in Counter(s.lesion_id for s in small.samples).items())
    assert small == limit(replace(data, samples=tuple(reversed(data.samples))), count, seed=5)
    assert small.samples != limit(data, count, seed=6).samples
    assert {(s.label, s.split) for s in split(small, 0)} == {(c, n) for c in data.labels for n in SPLITS}


def test_limit_is_stratified_by_class_and_official_split() -> None:
    data = official({"train": 400, "val": 100, "test": 100})
    counts = Counter((s.split, s.label) for s in limit(data, 120, seed=0).samples)
    assert set(counts) == {(name, label) for name in ("train", "val", "test") for label in ("mel", "nv")}
    assert counts["train", "mel"] > counts["test", "mel"] >= 10


def test_too_small_limit_is_refused_and_a_large_one_has_no_effect() -> None:
    data = lesions({"df": 12, "mel": 30, "nv": 60})
    with pytest.raises(DataError, match="limit of 11 images is too small"):
        limit(data, 11, seed=0)
    assert limit(data, 10_000, seed=0) is data


def test_split_file_is_read_back_and_checked_against_the_folder(tmp_path: Path) -> None:
    samples = []
    for k in range(16):
        path = tmp_path / f"{k}.png"
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
        samples.append(Sample(str(k), path.name, "nv" if k % 2 else "mel"))
    written = split(replace(dataset(samples), root=tmp_path), seed=0)  # also computes the missing hashes
    (tmp_path / "split.csv").write_text(write_split(written))
    reread = read_split(tmp_path / "split.csv")
    assert reread == tuple(replace(s, phash="") for s in written)
    check_against(reread, tmp_path)
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"something else")
    with pytest.raises(DataError, match="2 of 16 images of the split are missing or changed"):
        check_against(reread, tmp_path)


HEAD = "image_id,lesion_id,label,split,path,sha256\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        (b"\xff\xfe\x00", "needs the columns"),
        (HEAD.encode() + b"x" * 200_000, "unreadable split file"),
        (b"", "needs the columns"),
        (b"image_id,label\na,nv\n", "needs the columns"),
        (HEAD.encode() + b"a,,nv,exam,a.png,0\n", "unknown split names"),
        (HEAD.encode() + b"a,,nv\n", "unknown split names"),
    ],
)
def test_damaged_split_file_is_an_error(tmp_path: Path, text: bytes | None, message: str) -> None:
    path = tmp_path / "split.csv"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(DataError, match=message):
        read_split(path)
