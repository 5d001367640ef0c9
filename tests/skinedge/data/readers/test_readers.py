"""Reading each dataset layout, and the errors for invalid folders."""

from __future__ import annotations

import csv
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skinedge.core.arrays import open_arrays
from skinedge.core.errors import DataError
from skinedge.data import dataset
from skinedge.data.dataset import archive_images, isic_id, load_pixels
from skinedge.data.hashing import hash_images, inspect_images
from skinedge.data.readers import read
from skinedge.data.split import check_labels

SHARED = Path(__file__).parents[4] / ".." / "shared" / "data"


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def class_folders(root: Path, labels: Sequence[str] = ("mel", "nv"), count: int = 2, name: str = "x{}") -> Path:
    for index, label in enumerate(labels):
        for k in range(count):
            picture(root / label / f"{name.format(index * count + k)}.png", index * 100 + k)
    return root


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


HEAD = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")


def ham(root: Path) -> Path:
    class_folders(root / "images", name="ISIC_002430{}")
    rows = [("HAM_1", f"ISIC_002430{k}", "nv" if k > 1 else "mel", "histo", 80.0, "male", "back") for k in range(4)]
    write_csv(root / "meta.csv", [HEAD, *rows])
    return root


def test_ham10000_takes_labels_and_lesions_from_the_table(tmp_path: Path) -> None:
    result = read(ham(tmp_path))
    assert (result.kind, result.domain, result.synthetic, result.labels) == (
        "HAM10000",
        "dermoscopic",
        False,
        ("mel", "nv"),
    )
    first = result.samples[0]
    assert (first.image_id, first.label, first.lesion_id) == ("ISIC_0024300", "mel", "HAM_1")
    assert first.path == "images/mel/ISIC_0024300.png"
    assert first.meta == {"sex": "male", "age": "80.0", "site": "back", "confirmed_by": "histo"}
    assert load_pixels(result.root, first.path).shape == (12, 16, 3)


def test_ham10000_skips_copies_but_refuses_two_images_with_one_name(tmp_path: Path) -> None:
    root = ham(tmp_path)
    copy = root / "part2" / "ISIC_0024300.png"
    copy.parent.mkdir()
    copy.write_bytes((root / "images/mel/ISIC_0024300.png").read_bytes())
    assert len(read(root).samples) == 4
    picture(copy, 77)
    with pytest.raises(DataError, match=r"1 ids name two different images: ISIC_0024300 \(images/mel/.* and part2/"):
        read(root)


def test_ham10000_ignores_segmentation_masks(tmp_path: Path) -> None:
    root = ham(tmp_path)
    picture(root / "masks" / "ISIC_0024300_segmentation.png")
    assert len(read(root).samples) == 4


def test_ham10000_missing_image_and_missing_row_are_errors(tmp_path: Path) -> None:
    root = ham(tmp_path)
    picture(root / "images" / "ISIC_0000009.png")
    with pytest.raises(DataError, match=r"1 images have no row in meta\.csv: images/ISIC_0000009\.png"):
        read(root)
    (root / "images" / "ISIC_0000009.png").unlink()
    (root / "images/nv/ISIC_0024303.png").unlink()
    with pytest.raises(DataError, match=r"1 images of meta\.csv are missing: ISIC_0024303"):
        read(root)


def test_ham10000_row_without_a_label_is_an_error(tmp_path: Path) -> None:
    root = ham(tmp_path)
    rows = [("HAM_1", f"ISIC_002430{k}", "" if k == 2 else "nv", "", "", "", "") for k in range(4)]
    write_csv(root / "meta.csv", [HEAD, *rows])
    with pytest.raises(DataError, match=r"1 rows without dx in meta\.csv: ISIC_0024302"):
        read(root)


def test_ham10000_two_rows_that_disagree_are_an_error(tmp_path: Path) -> None:
    root = ham(tmp_path)
    with (root / "meta.csv").open("a") as stream:
        stream.write("HAM_1,ISIC_0024300,nv,histo,80.0,male,back\n")
    with pytest.raises(DataError, match=r"1 images with two different rows in meta\.csv: ISIC_0024300"):
        read(root)


def test_two_label_tables_are_refused(tmp_path: Path) -> None:
    root = ham(tmp_path)
    (root / "other.csv").write_bytes((root / "meta.csv").read_bytes())
    with pytest.raises(DataError, match=r"several tables could be the labels: meta\.csv, other\.csv"):
        read(root)


def test_folder_below_its_lesion_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"1 tables in the parent folder contain these images' lesion .*: meta\.csv \(lesion_id\)"
    ):
        read(ham(tmp_path) / "images")


def isic(root: Path, rows: Sequence[Sequence[object]]) -> Path:
    for k in range(3):
        picture(root / f"ISIC_000000{k}.png", k)
    write_csv(root / "truth.csv", [("image", "MEL", "NV", "UNK"), *rows])
    return root


GOOD = [("ISIC_0000000", 1.0, 0.0, 0.0), ("ISIC_0000001", 0, 1, 0), ("ISIC_0000002", 0, 1, 0)]


def test_isic_challenge_reads_one_hot_rows_and_lesions(tmp_path: Path) -> None:
    root = isic(tmp_path, GOOD)
    write_csv(root / "groups.csv", [("image", "lesion_id"), ("ISIC_0000001", "L1"), ("ISIC_0000002", "L1")])
    result = read(root)
    assert (result.kind, result.labels, result.domain) == ("ISIC challenge", ("MEL", "NV"), "dermoscopic")
    assert [(s.label, s.lesion_id) for s in result.samples] == [("MEL", ""), ("NV", "L1"), ("NV", "L1")]


def test_isic_row_that_is_not_one_hot_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"1 rows without exactly one 1 .* in truth\.csv: ISIC_0000002 \(1 in MEL, NV\)"
    ):
        read(isic(tmp_path, [*GOOD[:2], ("ISIC_0000002", 1, 1, 0)]))


def test_class_folders(tmp_path: Path) -> None:
    (tmp_path / "deeper" / "empty").mkdir(parents=True)
    result = read(class_folders(tmp_path, ("Melanoma", "acne")))
    assert (result.kind, result.labels, result.domain) == ("class folders", ("Melanoma", "acne"), "unknown")
    assert [s.image_id for s in result.samples] == ["x0", "x1", "x2", "x3"]
    assert Counter(s.label for s in result.samples) == {"Melanoma": 2, "acne": 2}


def test_class_folders_with_isic_names(tmp_path: Path) -> None:
    result = read(class_folders(tmp_path, name="ISIC_000000{}_downsampled"))
    assert result.domain == "unknown"
    assert isic_id(result.samples[0]) == "ISIC_0000000"


def test_class_folders_take_lesions_from_isic_metadata(tmp_path: Path) -> None:
    class_folders(tmp_path, name="ISIC_000000{}")
    write_csv(tmp_path / "metadata.csv", [("isic_id", "lesion_id"), ("ISIC_0000001", "IL_7"), ("ISIC_0000002", "IL_7")])
    assert [s.lesion_id for s in read(tmp_path).samples] == ["", "IL_7", "IL_7", ""]


def test_class_folders_with_the_same_file_names_get_ids_by_path(tmp_path: Path) -> None:
    picture(tmp_path / "mel" / "1.png")
    picture(tmp_path / "nv" / "1.png", 1)
    assert [s.image_id for s in read(tmp_path).samples] == ["mel/1.png", "nv/1.png"]


def test_common_parent_folders_are_skipped(tmp_path: Path) -> None:
    class_folders(tmp_path / "download" / "train")
    result = read(tmp_path)
    assert result.labels == ("mel", "nv")
    assert {s.split for s in result.samples} == {""}
    assert result.samples[0].path.startswith("download/train/mel/")


def test_official_splits_of_nested_folders(tmp_path: Path) -> None:
    for folder, seed in (("Train", "a{}"), ("valid", "b{}"), ("Test", "c{}")):
        class_folders(tmp_path / folder, name=seed)
    result = read(tmp_path)
    assert Counter((s.split, s.label) for s in result.samples) == {
        (split, label): 2 for split in ("train", "val", "test") for label in ("mel", "nv")
    }


def medmnist(path: Path, top: int = 7) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 14), ("val", 7), ("test", 7)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % top)[:, None].astype(np.uint8)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("as_folder", [True, False])
def test_medmnist_keeps_official_splits_and_names_of_dermamnist(tmp_path: Path, as_folder: bool) -> None:
    path = medmnist(tmp_path / "dermamnist_64.npz")
    result = read(tmp_path if as_folder else path)
    assert (result.kind, result.domain) == ("MedMNIST", "dermoscopic")
    assert Counter(s.split for s in result.samples) == {"train": 14, "val": 7, "test": 7}
    fifth = next(s for s in result.samples if s.path == "dermamnist_64.npz#val/5")
    assert fifth.label == "nv"
    with np.load(path) as archive:
        np.testing.assert_array_equal(load_pixels(result.root, fifth.path), archive["val_images"][5])
    assert len({s.sha256 for s in hash_images(result).samples}) == 28
    for item in ("val/7", "val/x", "val/-1", "exam/0"):
        with pytest.raises(DataError, match="archive"):
            load_pixels(result.root, f"dermamnist_64.npz#{item}")


def test_concurrent_threads_decompress_a_split_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = medmnist(tmp_path / "dermamnist.npz")
    loads = []

    def slow(*arguments: Any) -> Any:
        loads.append(threading.get_ident())
        time.sleep(0.05)
        return open_arrays(*arguments)

    monkeypatch.setattr(dataset, "open_arrays", slow)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: archive_images(path, "val"), range(4)))
    assert len(loads) == 1 and all(images is results[0] for images in results)


def test_other_medmnist_archive_needs_labels_toml(tmp_path: Path) -> None:
    path = medmnist(tmp_path / "mine.npz", top=2)
    with pytest.raises(DataError, match=r"labels\.toml"):
        read(path)
    (tmp_path / "labels.toml").write_text('labels = ["wart"]')
    with pytest.raises(DataError, match="labels go up to 1, but there are 1 class names"):
        read(path)
    (tmp_path / "labels.toml").write_text('labels = ["wart", "acne"]')
    assert read(path).labels == ("acne", "wart")
    assert read(path).samples[0].label == "wart"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_damaged_medmnist_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dermamnist.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"dermamnist\.npz"):
        read(path)


def test_medmnist_with_several_labels_per_image_is_refused(tmp_path: Path) -> None:
    labels = {f"{split}_labels": np.zeros((2, 14), dtype=np.uint8) for split in ("train", "val", "test")}
    images = {f"{split}_images": np.zeros((2, 8, 8), dtype=np.uint8) for split in ("train", "val", "test")}
    np.savez(tmp_path / "dermamnist.npz", **labels, **images)
    with pytest.raises(DataError, match="not one class per image"):
        read(tmp_path)


@pytest.mark.parametrize("marker", ["SYNTHETIC.json", "SYNTHETIC.txt", "deep/synthetic.json"])
def test_marked_folder_is_synthetic_even_when_mixed(tmp_path: Path, marker: str) -> None:
    class_folders(tmp_path, name="ISIC_000000{}")
    assert not read(tmp_path).synthetic
    (tmp_path / "deep").mkdir()
    (tmp_path / marker).write_text("{}")
    result = read(tmp_path)
    assert result.synthetic
    assert result.domain == "synthetic"


def test_unsupported_image_files_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(tmp_path)
    read(tmp_path)
    assert capsys.readouterr().err == ""
    for name in ("a.avif", "b.AVIF", "c.jxl", "notes.txt", ".hidden.avif"):
        (tmp_path / "nv" / name).write_bytes(b"x")
    assert len(read(tmp_path).samples) == 4
    output = capsys.readouterr()
    assert output.err.startswith(f"not read: 2 .avif, 1 .jxl in {tmp_path}") and output.out == ""


def test_archives_are_read_only_without_images(tmp_path: Path) -> None:
    medmnist(tmp_path / "a.npz")
    medmnist(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"several archives: a\.npz, b\.npz"):
        read(tmp_path)
    class_folders(tmp_path)
    assert read(tmp_path).kind == "class folders"


def test_one_synthetic_image_marks_the_dataset(tmp_path: Path) -> None:
    class_folders(tmp_path)
    picture(tmp_path / "nv" / "SYNTHETIC_S0_0000001.png", 5)
    assert read(tmp_path).synthetic


def test_missing_folder_no_images_or_one_class_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "none")
    with pytest.raises(DataError, match="no images found"):
        read(tmp_path)
    class_folders(tmp_path, ("mel",))
    with pytest.raises(DataError, match=r"1 class\(es\) found, but at least two are needed: mel"):
        read(tmp_path)


def test_one_class_with_a_table_is_an_error(tmp_path: Path) -> None:
    root = ham(tmp_path)
    write_csv(root / "meta.csv", [HEAD, *[("H", f"ISIC_002430{k}", "nv", "", "", "", "") for k in range(4)]])
    with pytest.raises(DataError, match=r"1 class\(es\) found, but at least two are needed: nv"):
        read(root)


def test_image_beside_class_folders_is_an_error(tmp_path: Path) -> None:
    class_folders(tmp_path)
    picture(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"1 images are in no class folder: loose\.png"):
        read(tmp_path)


def test_same_isic_image_under_two_labels_is_an_error(tmp_path: Path) -> None:
    picture(tmp_path / "mel" / "ISIC_0000001.png")
    picture(tmp_path / "nv" / "ISIC_0000001.jpg", 1)
    with pytest.raises(DataError, match=r"same image has two labels: mel/ISIC_0000001\.png is mel"):
        check_labels(read(tmp_path).samples)


def test_link_to_a_parent_folder_does_not_list_images_twice(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "nv" / "again").symlink_to(tmp_path)
    assert len(read(tmp_path).samples) == 4


def test_unreadable_images_are_listed(tmp_path: Path) -> None:
    class_folders(tmp_path, count=5)
    for k in range(7):
        (tmp_path / "nv" / f"bad{k}.jpg").write_bytes(b"not an image")
    result = read(tmp_path)
    with pytest.raises(DataError, match="7 of 17 images cannot be used") as caught:
        hash_images(result)
    assert str(caught.value).count("\n  nv/bad") == 5
    assert len(inspect_images(result).unreadable) == 7
    assert len(inspect_images(result).samples) == 10


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not here")
def test_real_folders() -> None:
    result = read(SHARED / "ham10000_200x150")
    counts = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}
    assert Counter(s.label for s in result.samples) == counts
    assert len({s.lesion_id for s in result.samples}) == 7470
    other = read(SHARED / "isic2018_224" / "train")
    assert (other.kind, len(other.samples), other.domain) == ("class folders", 5984, "dermoscopic")
