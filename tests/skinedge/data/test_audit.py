"""Planted duplicates, leaks and overlaps are found, without false positives."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.image_file import load_image
from skinedge.data.audit import AuditReport, DuplicatePair, audit, info, overlaps
from skinedge.data.dataset import Dataset, Sample
from skinedge.data.hashing import NEAR_BITS, Inspection, hash_images, inspect_images, near_pairs, perceptual_hash
from skinedge.data.readers import read
from skinedge.data.synthetic import draw

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"


def bits(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def resized(pixels: np.ndarray, width: int, height: int, quality: int = 75) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS).save(out, "JPEG", quality=quality)
    return load_image(out.getvalue())


@pytest.mark.parametrize("seed", range(4))
def test_hash_survives_resizing_recompression_light_and_a_centre_crop(seed: int) -> None:
    full = draw(seed, seed % 7, 450, 600)
    reference = perceptual_hash(full)
    assert bits(reference, perceptual_hash(resized(full, 200, 150))) <= NEAR_BITS
    assert bits(reference, perceptual_hash(resized(full[:, 75:525], 224, 224, quality=60))) <= NEAR_BITS
    darker = (full * 0.8).astype(np.uint8)
    assert bits(reference, perceptual_hash(darker)) <= NEAR_BITS


def test_hashes_of_different_lesions_are_far_apart() -> None:
    hashes = [perceptual_hash(draw(seed, label, 96, 96)) for seed in range(6) for label in range(7)]
    assert near_pairs(hashes) == []


def test_flat_images_have_the_empty_hash() -> None:
    assert perceptual_hash(np.full((50, 70, 3), 131, dtype=np.uint8)) == "0" * 64


def test_near_pairs_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2, (12, 256), dtype=np.uint8)
    flips = (rng.random((40, 256)) < rng.uniform(0, 0.3, (40, 1))).astype(np.uint8)
    rows = np.concatenate([base, base[rng.integers(0, 12, 40)] ^ flips])
    hashes = [np.packbits(row).tobytes().hex() for row in rows]
    near = {(i, j): bits(a, b) for i, a in enumerate(hashes) for j, b in enumerate(hashes)}
    expected = {(i, j, d) for (i, j), d in near.items() if d <= NEAR_BITS}
    assert set(near_pairs(hashes)) == {(i, j, d) for i, j, d in expected if i < j}
    assert len(near_pairs(hashes)) > 10
    left, right = hashes[:20], hashes[20:]
    assert set(near_pairs(left, right)) == {(i, j - 20, d) for i, j, d in expected if i < 20 <= j}
    assert near_pairs([]) == []


def write_images(root: Path) -> Path:
    for k in range(8):
        path = root / ("nv" if k % 2 else "mel") / f"x{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(k, k % 7, 64, 64)).save(path)
    return root


def audit_folder(root: Path) -> AuditReport:
    dataset = read(root)
    return audit(dataset, inspect_images(dataset))


def test_clean_folder_passes(tmp_path: Path) -> None:
    report = audit_folder(write_images(tmp_path))
    assert report.sound
    assert report.counts == {"mel": 4, "nv": 4}
    assert (report.lesions, report.exact, report.near, report.leaks) == (None, (), (), ())


def test_duplicates_are_reported_but_pass(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    (root / "mel" / "copy.png").write_bytes((root / "mel" / "x0.png").read_bytes())
    Image.fromarray(resized(draw(1, 1, 64, 64), 100, 100, 90)).save(root / "nv" / "again.jpg")
    report = audit_folder(root)
    assert report.sound
    assert report.exact == (("mel/copy.png", "mel/x0.png"),)
    assert [(p.left, p.right, p.by) for p in report.near] == [("nv/again.jpg", "nv/x1.png", "look")]
    assert 0 <= report.near[0].distance <= NEAR_BITS


def test_copy_under_another_label_and_unreadable_image_fail(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    (root / "nv" / "copy.png").write_bytes((root / "mel" / "x0.png").read_bytes())
    report = audit_folder(root)
    assert not report.sound
    assert report.two_labels == (("mel/x0.png", "nv/copy.png"),)
    (root / "nv" / "copy.png").write_bytes(b"?")
    report = audit_folder(root)
    assert not report.sound
    assert [path for path, _ in report.unreadable] == ["nv/copy.png"]


def test_leak_between_official_splits_fails_by_bytes_and_by_look(tmp_path: Path) -> None:
    for split_index, name in enumerate(("train", "test")):
        for k in range(4):
            path = tmp_path / name / ("nv" if k % 2 else "mel") / f"{name}{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(10 * split_index + k, k, 64, 64)).save(path)
    assert audit_folder(tmp_path).sound
    again = tmp_path / "test" / "nv" / "again.png"
    again.write_bytes((tmp_path / "train" / "nv" / "train1.png").read_bytes())
    assert audit_folder(tmp_path).leaks == (DuplicatePair("test/nv/again.png", "train/nv/train1.png", "bytes"),)
    Image.fromarray(resized(draw(1, 1, 64, 64), 96, 96, 90)).save(again)
    report = audit_folder(tmp_path)
    assert [pair.by for pair in report.leaks] == ["look"]
    assert not report.sound


def test_overlaps_report_the_strongest_evidence() -> None:
    def one(name: str, lesion: str = "", digest: str = "") -> Sample:
        return Sample(name, f"{name}.jpg", "nv", lesion, sha256=digest or name)

    left = [one("ISIC_0000001"), one("b", "HAM_2"), one("c", "17"), one("d", digest="same"), one("e")]
    right = [one("ISIC_0000001_x"), one("y", "HAM_2"), one("z", "17"), one("w", digest="same")]
    assert overlaps(left, right) == (
        DuplicatePair("ISIC_0000001.jpg", "ISIC_0000001_x.jpg", "ISIC id"),
        DuplicatePair("b.jpg", "y.jpg", "lesion id"),
        DuplicatePair("d.jpg", "w.jpg", "bytes"),
    )


def test_overlap_by_lesion_id_of_only_one_dataset() -> None:
    """The left dataset has two photos with one lesion id; the right one has the second photo without a lesion id."""
    left = [Sample("ISIC_0000001", "l1", "nv", "HAM_1"), Sample("ISIC_0000002", "l2", "nv", "HAM_1")]
    right = [Sample("ISIC_0000002", "r2", "nv")]
    assert [(p.left, p.by) for p in overlaps(left, right)] == [("l1", "lesion id"), ("l2", "ISIC id")]
    assert [(p.left, p.by) for p in overlaps(right, left[:1])] == []
    assert [(p.left, p.by) for p in overlaps(right, left)] == [("r2", "ISIC id")]


def test_info_of_a_dataset(tmp_path: Path) -> None:
    root = write_images(tmp_path)
    (root / "nv").rename(root / "strange")
    summary = info(read(root))
    assert summary.classes == {"mel": (4, "malignant"), "strange": (4, None)}
    assert (summary.images, summary.sizes, summary.splits, summary.synthetic) == (8, {"64x64": 8}, {}, False)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not here")
def test_hash_recognizes_recropped_real_images_only() -> None:
    """Compares 224-pixel centre crops with the 200 x 150 full frames by look only, without their names."""
    small = read(SHARED / "ham10000_200x150")
    crops = read(SHARED / "isic2018_224" / "train")
    crops = replace(crops, samples=crops.samples[::20])
    crop_ids = {s.image_id for s in crops.samples}
    lesion = {s.image_id: s.lesion_id for s in small.samples}
    full = replace(
        small, samples=tuple(s for k, s in enumerate(small.samples) if s.image_id in crop_ids or k % 10 == 0)
    )
    a, b = hash_images(crops).samples, hash_images(full).samples
    pairs = [(a[i].image_id, b[j].image_id) for i, j, _ in near_pairs([s.phash for s in a], [s.phash for s in b])]
    recognized = {left for left, right in pairs if left == right}
    false_pairs = [pair for pair in pairs if lesion[pair[0]] != lesion[pair[1]]]
    assert len(recognized) >= 0.99 * len(crop_ids)
    assert len(false_pairs) <= 2


def test_unhashed_samples_are_compared_by_name_only() -> None:
    data = Dataset(Path(), "class folders", ("nv",), (Sample("a", "a.jpg", "nv"), Sample("b", "b.jpg", "nv")))
    assert overlaps(data.samples, data.samples) == ()


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_folder_that_cannot_be_split_is_still_audited(tmp_path: Path, split: str) -> None:
    for label in ("mel", "nv"):
        (tmp_path / split / label).mkdir(parents=True)
        Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / split / label / f"{label}1.png")
    dataset = read(tmp_path)
    samples = tuple(replace(sample, split=split) for sample in inspect_images(dataset).samples)
    report = audit(replace(dataset, samples=samples), Inspection(samples, ()))
    assert report.sound and report.scarce == {}
    assert audit(dataset, Inspection((), (("x.png", "damaged"),))).unreadable == (("x.png", "damaged"),)
