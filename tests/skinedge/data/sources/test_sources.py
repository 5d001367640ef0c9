"""Several folders as one dataset, maps of classes, and their splits."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.errors import ConfigError, DataError
from skinedge.data.dataset import Dataset, DataSource, Sample, read_split, write_split
from skinedge.data.hashing import hash_images
from skinedge.data.licensing import NON_COMMERCIAL, joint_licence
from skinedge.data.loading import read_checked
from skinedge.data.read_options import ReadOptions, recorded_options
from skinedge.data.readers import read, survey
from skinedge.data.sources.folders import several
from skinedge.data.sources.label_map import LabelMap, read_map
from skinedge.data.split import check_split, limit, split, unit_of


def write_image(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)


def write_classes(root: Path, counts: dict[str, int], start: int) -> Path:
    for label, count in counts.items():
        for i in range(count):
            write_image(root / label / f"{label}{i}.png", start)
            start += 1
    return root


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Return two folders: one of three classes, one that calls melanoma 'M' and does not tell the others apart."""
    one = write_classes(tmp_path / "one", {"mel": 30, "nv": 40, "bkl": 20}, 0)
    two = write_classes(tmp_path / "two", {"M": 30, "benign": 20, "junk": 5}, 1000)
    return [one, two]


MAP = LabelMap(classes={"M": "mel", "benign": ("nv", "bkl"), "junk": ""}, test_share=0.4)


def joined(folders: list[Path], **readings: ReadOptions) -> Dataset:
    root, options = several(folders, readings or {"two": ReadOptions(label_map=MAP)})
    return read(root, options)


def test_each_source_keeps_its_name_its_classes_and_its_paths(folders: list[Path]) -> None:
    dataset = joined(folders)
    assert dataset.root == folders[0].parent and dataset.labels == ("bkl", "mel", "nv")
    assert dataset.partial == {"benign": ("bkl", "nv")}
    counts = Counter((sample.source, sample.label) for sample in dataset.samples)
    assert counts == {
        ("one", "mel"): 30,
        ("one", "nv"): 40,
        ("one", "bkl"): 20,
        ("two", "mel"): 30,
        ("two", "benign"): 20,
    }
    assert all((dataset.root / sample.path).is_file() for sample in dataset.samples)
    assert [source.labels for source in dataset.sources] == [("bkl", "mel", "nv")] * 2


def test_every_source_is_split_by_itself_and_partial_labels_only_train(folders: list[Path]) -> None:
    samples = split(joined(folders), seed=1)
    counts = Counter((sample.source, sample.label, sample.split) for sample in samples)
    assert counts["two", "mel", "test"] == 12, "40 % of 30"
    assert {part for source, label, part in counts if label == "benign"} == {"train"}
    assert all(counts["one", label, part] for label in ("mel", "nv", "bkl") for part in ("train", "val", "cal", "test"))
    assert all(counts["two", "mel", part] for part in ("train", "val", "cal", "test"))


def test_the_shares_of_test_are_those_of_the_map_with_an_official_split(folders: list[Path], tmp_path: Path) -> None:
    rows = ["file,finding,part"]
    for i, path in enumerate(sorted(folders[1].glob("M/*.png")) + sorted(folders[1].glob("benign/*.png"))):
        rows.append(f"{path.name},{path.parent.name},{'fold 2' if i % 10 == 0 else 'train'}")
    for path in folders[1].glob("junk/*.png"):
        path.unlink()
    (folders[1] / "labels.csv").write_text("\n".join(rows))
    columns = {"split": "part", "label": "finding"}
    label_map = LabelMap({"M": "mel", "benign": "nv"}, columns=columns, splits={"fold 2": "test"}, test_share=0.2)
    samples = split(joined(folders, two=ReadOptions(label_map=label_map)), seed=0)
    mel = [sample for sample in samples if sample.source == "two" and sample.label == "mel"]
    official = {sample.path for sample in mel if rows_of(rows)[Path(sample.path).name] == "fold 2"}
    held_out = {sample.path for sample in mel if sample.split == "test"}
    assert official and official <= held_out and len(held_out) == 6, "20 % of 30, the official ones among them"
    assert {sample.split for sample in mel} == {"train", "val", "cal", "test"}


def rows_of(rows: list[str]) -> dict[str, str]:
    return {name: part for name, _, part in (row.split(",") for row in rows[1:])}


def test_copies_across_sources_are_in_one_split_and_copies_of_compatible_labels_are_no_conflict(
    folders: list[Path],
) -> None:
    for i in range(8):
        source = folders[0] / "nv" / f"nv{i}.png"
        (folders[1] / "benign" / f"copy{i}.png").write_bytes(source.read_bytes())
    samples = split(joined(folders), seed=2)
    check_split(samples)
    by_bytes: dict[str, set[str]] = {}
    for sample in samples:
        by_bytes.setdefault(sample.sha256, set()).add(sample.split)
    assert all(len(parts) == 1 for parts in by_bytes.values())
    (folders[1] / "M" / "wrong.png").write_bytes((folders[0] / "nv" / "nv9.png").read_bytes())
    with pytest.raises(DataError, match="the same image has two labels"):
        split(joined(folders), seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_splits_whatever_the_official_splits_of_the_sources(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    samples = []
    for i in range(400):
        source = rng.choice(["a", "b", "c"])
        official = {"a": "", "b": rng.choice(["train", "train", "test"]), "c": rng.choice(["train", "val"])}[source]
        lesion = f"L_{rng.randrange(250)}"
        label = "mel" if int(lesion[2:]) % 3 else "nv"
        path = f"{source}/{i}.png"
        digest = f"{rng.randrange(9000):064x}x{label}"
        samples.append(
            Sample(path, path, label, lesion, official, digest, f"{rng.getrandbits(256):064x}", source=source)
        )
    dataset = Dataset(tmp_path, "several sources", ("mel", "nv"), tuple(samples), test_shares={"b": 0.3})
    result = split(dataset, seed)
    check_split(result)
    assert len(result) == 400
    assert split(replace(dataset, samples=tuple(reversed(samples))), seed) == result, "the order of files changed it"


def test_a_link_names_its_source_and_what_a_run_records_reads_the_same(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "clinic").symlink_to(folders[1])
    root, options = several([folders[0], tmp_path / "clinic"], {"clinic": ReadOptions(label_map=MAP)})
    dataset = read(root, options)
    assert {sample.source for sample in dataset.samples} == {"one", "clinic"}
    again = read(root, recorded_options(options.document(), None))
    assert again.samples == dataset.samples and again.sources == dataset.sources
    stored = split(dataset, 0)
    (tmp_path / "split.csv").write_text(write_split(stored))
    kept = [(s.path, s.label, s.split, s.source, s.stretch) for s in read_split(tmp_path / "split.csv")]
    assert kept == [(s.path, s.label, s.split, s.source, s.stretch) for s in stored]


def test_numbers_of_lesions_are_kept_apart_by_source_and_ids_of_archives_are_not(folders: list[Path]) -> None:
    for folder, ids in ((folders[0], ("7", "HAM_0000118")), (folders[1], ("7", "HAM_0000118"))):
        images = sorted(path.name for path in folder.glob("*/*.png"))
        rows = [f"{name},{ids[i] if i < 2 else f'x{i}'}" for i, name in enumerate(images)]
        (folder / "lesions.csv").write_text("\n".join(["image_id,lesion_id", *rows]))
    lesions = Counter(sample.lesion_id for sample in joined(folders).samples)
    assert lesions["one/7"] == lesions["two/7"] == 1 and lesions["HAM_0000118"] == 2


def test_squashed_copies_are_stretched_before_they_are_cropped(tmp_path: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    photo = photo.resize((320, 240), Image.Resampling.BICUBIC)
    for label in ("mel", "nv"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        photo.save(tmp_path / "photos" / label / "a.png")
        (tmp_path / "squashed" / label).mkdir(parents=True)
        photo.resize((240, 240), Image.Resampling.BICUBIC).save(tmp_path / "squashed" / label / "a.png")
    original = hash_images(read(tmp_path / "photos"))
    options = ReadOptions(label_map=LabelMap(stretch=(320, 240)))
    restored = hash_images(read(tmp_path / "squashed", options))
    squashed = hash_images(read(tmp_path / "squashed"))
    pixels = [read_checked(data.root, data.samples[0], "srgb") for data in (original, restored)]
    assert pixels[0].shape == pixels[1].shape == (240, 320, 3)
    assert np.abs(pixels[0].astype(int) - pixels[1]).mean() < 4
    bits = [int(data.samples[0].phash, 16) for data in (original, restored, squashed)]
    assert (bits[0] ^ bits[1]).bit_count() < 20 < (bits[0] ^ bits[2]).bit_count()


def test_all_classes_that_a_map_forgets_are_named_ready_to_paste(folders: list[Path]) -> None:
    with pytest.raises(DataError, match="does not name all classes of this folder; 2 missing") as error:
        joined(folders, two=ReadOptions(label_map=LabelMap({"M": "mel"})))
    assert '  "benign" = "..."\n  "junk" = "..."' in str(error.value)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"M": "mel", "benign": "nv", "junk": "", "x": "nv"}, "names classes that this folder lacks: x"),
        ({"M": ("mel", "benign"), "benign": "nv", "junk": ""}, "'M' may be 'benign', but no source"),
        ({"M": "benign", "benign": ("nv", "bkl"), "junk": ""}, "uses 'benign' as a class"),
    ],
)
def test_maps_that_contradict_the_folders_are_refused(
    folders: list[Path], classes: dict[str, str | tuple[str, ...]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        joined(folders, two=ReadOptions(label_map=LabelMap(classes)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("klasses = {}", "unknown key|klasses"),
        ("stretch = [341]", "stretch is"),
        ("stretch = [341, 0]", "stretch is"),
        ("test_share = 1.0", "test_share is 1.0"),
        ('domain = "moon"', "moon"),
        ('[splits]\nfold = "training"', "training"),
        ("[classes]\nnv = 3", "classes"),
    ],
)
def test_a_wrong_map_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_map(path)


@pytest.mark.parametrize("others", [["one"], ["x/one"], ["one/mel"]])
def test_folders_that_cannot_be_told_apart_are_refused(folders: list[Path], tmp_path: Path, others: list[str]) -> None:
    with pytest.raises(ConfigError, match="--data"):
        several([folders[0], *(tmp_path / name for name in others)], {})


def test_a_map_of_no_folder_is_refused(folders: list[Path]) -> None:
    with pytest.raises(ConfigError, match="--map names the folder 'three'"):
        several(folders, {"three": ReadOptions(label_map=MAP)})


def test_synthetic_and_real_images_are_not_mixed(folders: list[Path]) -> None:
    (folders[1] / "SYNTHETIC.txt").write_text("")
    with pytest.raises(DataError, match="some sources are synthetic"):
        joined(folders)


def test_problems_of_every_source_are_listed(folders: list[Path]) -> None:
    for folder in folders:
        write_image(folder / "loose.png", 5)
    root, options = several(folders, {"two": ReadOptions(label_map=MAP)})
    assert [problem.what for problem in survey(root, options).problems] == ["images are in no class folder"] * 2


def test_the_licences_of_all_sources_apply() -> None:
    def source(name: str, license: str) -> DataSource:
        return DataSource(name, name, "class folders", "clinical", license, f"{name}'s authors", ("mel",))

    both = joint_licence([source("a", NON_COMMERCIAL), source("b", "CC0-1.0"), source("c", NON_COMMERCIAL)])
    assert both.license == "CC-BY-NC-4.0 AND CC0-1.0" and "a's authors; b's authors" in both.attribution
    assert joint_licence([source("a", NON_COMMERCIAL), source("b", "")]).license == ""


def test_the_map_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    docs = Path(__file__).resolve().parents[4] / "docs"
    pages = "\n".join(page.read_text() for page in sorted(docs.glob("*.md")))
    block = next(block for block in pages.split("```toml\n")[1:] if block.startswith("# isic2017.toml"))
    (tmp_path / "isic2017.toml").write_text(block.partition("```")[0])
    label_map = read_map(tmp_path / "isic2017.toml")
    assert label_map.targets("benign") == ("bkl", "df", "nv", "vasc") and label_map.stretch == (341, 256)


def test_an_official_split_may_be_a_column_that_is_named(folders: list[Path]) -> None:
    images = sorted(path for path in folders[0].glob("*/*.png"))
    parts = ["train", "train", "Validation", "TEST"]
    rows = [f"{path.name},{path.parent.name},{parts[i % 4]}" for i, path in enumerate(images)]
    (folders[0] / "labels.csv").write_text("\n".join(["image,label,set", *rows]))
    assert {sample.split for sample in read(folders[0]).samples} == {""}
    samples = read(folders[0], ReadOptions(columns={"split": "set"})).samples
    assert Counter(sample.split for sample in samples) == {"train": 46, "val": 22, "test": 22}
    (folders[0] / "labels.csv").write_text("\n".join(["image,label,set", rows[0] + "x", *rows[1:]]))
    with pytest.raises(DataError, match="official split has trainx, which is no split"):
        read(folders[0], ReadOptions(columns={"split": "set"}))


def test_a_copy_in_two_official_splits_is_held_out_where_a_map_asks_for_a_share(folders: list[Path]) -> None:
    images = sorted(path for path in folders[0].glob("*/*.png"))
    (images[0].parent / "copy.png").write_bytes(images[0].read_bytes())
    rows = [f"{path.name},{path.parent.name},{'test' if i % 5 == 0 else 'train'}" for i, path in enumerate(images)]
    rows.append(f"copy.png,{images[0].parent.name},train")
    (folders[0] / "labels.csv").write_text("\n".join(["image,label,set", *rows]))
    columns = {"split": "set"}
    with pytest.raises(DataError, match="in two splits"):
        split(read(folders[0], ReadOptions(columns=columns)), 0)
    samples = split(read(folders[0], ReadOptions(label_map=LabelMap(columns=columns, test_share=0.2))), 0)
    assert {sample.split for sample in samples if "copy" in sample.path or sample.path.endswith(images[0].name)} == {
        "test"
    }


def test_a_limit_keeps_the_shares_of_the_sources(folders: list[Path]) -> None:
    dataset = hash_images(joined(folders))
    kept = limit(dataset, 70, 0).samples
    counts = Counter(sample.source for sample in kept)
    assert unit_of(kept).endswith(f"; one {counts['one']} images, two {counts['two']} images")
    assert 65 <= counts["one"] + counts["two"] <= 70
    assert counts["two"] / 70 == pytest.approx(50 / 140, abs=0.1)
