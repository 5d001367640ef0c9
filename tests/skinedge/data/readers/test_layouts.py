"""A replica of each public dataset's folder, as it is downloaded, is read without renaming anything."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import replicas
from PIL import Image
from replicas import LAYOUTS, images, isic_2019, pad_ufes, table

from skinedge.core.errors import DataError, MissingDependencyError
from skinedge.core.preprocess import Preprocess
from skinedge.core.taxonomy import find
from skinedge.data.audit import info
from skinedge.data.dataset import Dataset, load_pixels, read_split, write_split
from skinedge.data.hashing import content_hash, hash_images
from skinedge.data.loading import iterate_prepared
from skinedge.data.plan import LEAVE_OUT, PlanRow, to_text
from skinedge.data.read_options import ReadOptions
from skinedge.data.readers import read, survey
from skinedge.data.split import check_split, split, unit_of
from skinedge.data.table_file import is_table


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_a_dataset_is_read_as_it_is_downloaded(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    found = read(tmp_path)
    kind, domain, counts, patients = LAYOUTS[make]
    labels = [sample.label for sample in found.samples]
    assert (found.kind, found.domain) == (kind, domain)
    assert {label: labels.count(label) for label in found.labels} == counts
    assert len({sample.patient_id for sample in found.samples} - {""}) == patients


def rewritten(root: Path, delimiter: str, encoding: str, line: str) -> None:
    """Save every table of the folder as another program would."""
    for path in root.rglob("*"):
        if path.is_file() and is_table(path.name) and path.suffix != ".jsonl":
            rows = list(csv.reader(path.read_text().splitlines()))
            out = io.StringIO()
            csv.writer(out, delimiter=delimiter, lineterminator=line).writerows(rows)
            path.write_bytes(out.getvalue().encode(encoding))


@pytest.mark.parametrize(
    "dialect", [(";", "utf-8", "\n"), ("\t", "utf-16", "\r\n"), (",", "utf-8-sig", "\r\n")], ids=str
)
@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_a_dataset_is_the_same_with_its_tables_saved_by_another_program(
    tmp_path: Path, make: Callable[[Path], None], dialect: tuple[str, str, str]
) -> None:
    make(tmp_path)
    before = read(tmp_path)
    rewritten(tmp_path, *dialect)
    assert read(tmp_path) == before


def test_what_is_told_of_an_image(tmp_path: Path) -> None:
    pad_ufes(tmp_path)
    nevus, carcinoma = sorted(read(tmp_path).samples, key=lambda sample: sample.label, reverse=True)
    assert (nevus.image_id, nevus.lesion_id, nevus.patient_id) == ("PAT_1516_1765_530", "1765", "PAT_1516")
    assert carcinoma.meta == {"sex": "FEMALE", "age": "55", "site": "NECK", "fitzpatrick": "3"}


def of_patients(root: Path, patients: int, each: int) -> Dataset:
    lines = ["image_name,patient_id,benign_malignant"]
    for number in range(patients * each):
        Image.effect_noise((32, 32), 90).convert("RGB").save(root / f"im{number}.png")
        lines.append(f"im{number},P{number // each},{'malignant' if number % each else 'benign'}")
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    return read(root)


def test_a_patients_images_are_in_one_split_and_the_split_file_keeps_the_patient(tmp_path: Path) -> None:
    samples = split(of_patients(tmp_path, 24, 4), 0)
    homes: dict[str, set[str]] = {}
    for sample in samples:
        homes.setdefault(sample.patient_id, set()).add(sample.split)
    assert len(homes) == 24 and all(len(splits) == 1 for splits in homes.values())
    (tmp_path / "split.csv").write_text(write_split(samples))
    again = read_split(tmp_path / "split.csv")
    assert [sample.patient_id for sample in again] == [sample.patient_id for sample in samples]
    moved = [
        *again[:-1],
        type(again[-1])(**{**vars(again[-1]), "split": "train" if again[-1].split != "train" else "test"}),
    ]
    with pytest.raises(DataError, match="in two splits"):
        check_split(moved)


@pytest.mark.parametrize("name", ["a#1", "100% \u00e4 'q' \"d\"", "x.npz#train/3", "semi;colon,comma"])
def test_any_file_and_class_name_is_read_back(tmp_path: Path, name: str) -> None:
    for label in (name.replace("/", "_"), "nv"):
        images(tmp_path / label, f"{label}.png")
    dataset = hash_images(read(tmp_path))
    (tmp_path / "split.csv").write_text(write_split(tuple(replace(s, split="train") for s in dataset.samples)))
    again = read_split(tmp_path / "split.csv")
    assert [(s.label, s.path, s.sha256) for s in again] == [(s.label, s.path, s.sha256) for s in dataset.samples]
    assert all(load_pixels(tmp_path, sample.path).shape == (8, 8, 3) for sample in again)


@pytest.mark.parametrize("label", ["a\nb", "a\x85b", "a\u2028b", "tab\tb"])
def test_a_class_name_that_breaks_a_list_of_labels_is_refused(tmp_path: Path, label: str) -> None:
    for name in (label, "nv"):
        images(tmp_path / name, f"{name}1.png")
    with pytest.raises(DataError, match="class names with control characters"):
        read(tmp_path)


def test_what_a_split_keeps_together_is_told(tmp_path: Path) -> None:
    pad_ufes(tmp_path / "pad")
    assert unit_of(read(tmp_path / "pad").samples) == "by patient (2 patients, 2 lesions)"
    isic_2019(tmp_path / "isic")
    told = "by lesion (1 lesions); 1 images of no known one, by image"
    assert unit_of(read(tmp_path / "isic").samples) == told
    replicas.dermnet(tmp_path / "dermnet")
    assert unit_of(read(tmp_path / "dermnet").samples).startswith("by image, copies together")


def test_every_label_of_a_replica_is_known_to_the_taxonomy() -> None:
    labels = {label for _, _, counts, _ in LAYOUTS.values() for label in counts}
    assert [label for label in labels if find(label) is None] == []


TONES: dict[Callable[[Path], None], dict[str, list[str]]] = {
    pad_ufes: {"fitzpatrick": ["3"]},
    replicas.fitzpatrick17k: {"fitzpatrick": ["3"]},  # the other is -1
    replicas.isic_cli: {"fitzpatrick": ["3"]},
    replicas.ddi: {"skin_tone": ["12", "56"]},
    replicas.milk10k: {"milk10k_tone": ["3"] * 4},
    replicas.scin: {
        "fitzpatrick": ["3", "3"],
        "fitzpatrick_dermatologist": ["3", "3"],  # two dermatologists disagree on the other case
        "monk_us": ["4", "4"],
        "monk_india": ["10", "3", "3"],
    },
}


@pytest.mark.parametrize("make", TONES, ids=lambda make: make.__name__)
def test_skin_tones_keep_the_name_of_their_scale(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    told = [sample.meta for sample in read(tmp_path).samples]
    names = {name for meta in told for name in meta} - {"sex", "age", "site", "image_type", "confirmed_by"}
    assert {name: sorted(meta[name] for meta in told if name in meta) for name in names} == TONES[make]


def test_scin_keeps_cases_together_and_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replicas.scin(tmp_path)
    dataset = read(tmp_path)
    assert sorted((sample.lesion_id, sample.label) for sample in dataset.samples) == [
        ("11", "Eczema"),
        ("11", "Eczema"),
        ("12", "SCC/SCCIS"),
    ]
    err = capsys.readouterr().err
    assert "left out: 1 cases without a condition (dataset/scin_labels.csv)" in err
    assert "left out: 1 cases whose heaviest conditions have equal weights" in err and "not understood" not in err


@pytest.mark.parametrize(
    "cell",
    [
        "__import__('os').getcwd()",
        "{'a': 'b'}",
        "['a']",
        "{1: 0.5}",
        "{'a': -1}",
        "{'a': 1e999}",
        "{'a': True}",
        "(",
        "[" * 9000,
        "{'a': " + "9" * 20000 + "}",
        "{'a': {'a': 1}}",
        "{**x}",
    ],
)
def test_weights_that_are_no_weights_are_an_error_that_names_the_case(tmp_path: Path, cell: str) -> None:
    replicas.scin(tmp_path)
    path = tmp_path / "dataset" / "scin_labels.csv"
    path.write_text(f'case_id,weighted_skin_condition_label\n11,"{cell}"\n12,{{}}\n')
    with pytest.raises(DataError, match=r"1 cells are no list of conditions with weights in .*: case 11") as caught:
        read(tmp_path)
    assert str(tmp_path / "dataset" / "scin_labels.csv") in str(caught.value)


def test_derm7pt_has_its_official_split(tmp_path: Path) -> None:
    replicas.derm7pt(tmp_path)
    splits = {sample.image_id: sample.split for sample in read(tmp_path).samples}
    assert splits == {"NEL027": "train", "NEL030": "val", "NGL002": "test"}
    (tmp_path / "meta" / "test_indexes.csv").write_text("indexes\n2\n")
    with pytest.raises(
        DataError, match=r"2 rows of meta/meta\.csv are not in exactly one of .*: row 2 \(in two\), row 1"
    ):
        read(tmp_path)
    (tmp_path / "meta" / "test_indexes.csv").unlink()
    with pytest.raises(DataError, match=r"are not in exactly one of meta/train_indexes\.csv, .*: row 1 \(in none\)"):
        read(tmp_path)


def test_a_scin_case_without_images_and_a_second_table_are_refused(tmp_path: Path) -> None:
    replicas.scin(tmp_path)
    labels = tmp_path / "dataset" / "scin_labels.csv"
    plain = labels.read_text()
    labels.write_text(f"{plain.rstrip()}\n77{plain.splitlines()[1].partition(',')[1]}\n")
    with pytest.raises(DataError, match=r"1 cases are not in dataset/scin_cases\.csv, but in .*: case 77"):
        read(tmp_path)
    labels.write_text(plain)
    labels.with_name("copy.csv").write_text(plain)
    with pytest.raises(DataError, match=r"several tables have case_id and weighted_.*copy\.csv, .*scin_labels\.csv"):
        read(tmp_path)


def test_a_milk10k_lesion_without_an_image_is_refused(tmp_path: Path) -> None:
    replicas.milk10k(tmp_path)
    (truth,) = tmp_path.rglob("*GroundTruth.csv")
    text = truth.read_text().rstrip()
    truth.write_text(
        f"{text}\nIL_9{text.splitlines()[-1].partition(',')[1]}{text.splitlines()[-1].partition(',')[2]}\n"
    )
    with pytest.raises(DataError, match=r"1 lesions have no image in .* and a row in .*: IL_9"):
        read(tmp_path)


@pytest.mark.parametrize("rows", ["", "\nx1,L1\nx2,L1"])
def test_a_table_of_lesions_of_other_images_is_never_treated_as_absent(tmp_path: Path, rows: str) -> None:
    for label in ("mel", "nv"):
        (tmp_path / label).mkdir()
        for number in range(2):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / label / f"{label}{number}.png")
    (tmp_path / "metadata.csv").write_text(f"image_id,lesion_id{rows}")
    with pytest.raises(
        DataError, match=r"tables tell lesions or patients, but of no image of this folder: metadata\.csv"
    ):
        read(tmp_path)
    (tmp_path / "other.csv").write_text("image_id,lesion_id\nmel0,L1\nmel1,L1\nnv0,L2\nnv1,L2")
    assert {sample.lesion_id for sample in read(tmp_path).samples} == {"L1", "L2"}


def test_derm7pts_split_counts_the_rows_of_the_published_table(tmp_path: Path) -> None:
    replicas.derm7pt(tmp_path)
    table = tmp_path / "meta" / "meta.csv"
    header, *rows = table.read_text().strip().split("\n")
    table.write_text("\n".join([header, *reversed(rows), rows[1]]))
    splits = {sample.image_id: sample.split for sample in read(tmp_path).samples}
    assert splits == {"NEL027": "train", "NEL030": "val", "NGL002": "test"}


def test_an_imagefolder_has_the_splits_of_its_folders(tmp_path: Path) -> None:
    replicas.imagefolder_splits(tmp_path)
    samples = read(tmp_path).samples
    assert {(sample.path, sample.split) for sample in samples if sample.path.endswith("0001.png")} == {
        ("train/0001.png", "train"),
        ("validation/0001.png", "val"),
        ("test/0001.png", "test"),
    }
    assert len({sample.image_id for sample in samples}) == 6


def test_images_in_an_hdf5_file_are_read_like_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py")
    replicas.isic_2024_hdf5(tmp_path)
    found = read(tmp_path)
    assert (found.kind, found.domain) == ("ISIC 2024 (SLICE-3D)", "clinical")
    assert "not read: test-image.hdf5 (a challenge's test images)" in capsys.readouterr().err
    first = found.samples[0]
    assert (first.path, first.image_id) == ("train-image.hdf5#ISIC_0015670", "ISIC_0015670")
    hashed = hash_images(found)
    (tmp_path / "one.jpg").write_bytes(replicas.jpeg(0))
    assert hashed.samples[0].sha256 == content_hash(tmp_path, "one.jpg") == content_hash(tmp_path, first.path)
    assert (load_pixels(tmp_path, first.path) == load_pixels(tmp_path, "one.jpg")).all()
    assert [batch.shape for batch in iterate_prepared(tmp_path, hashed.samples, Preprocess(8))] == [(2, 8, 8, 3)]
    assert info(found).sizes == {"8x8": 2}
    (tmp_path / "split.csv").write_text(write_split(tuple(replace(s, split="train") for s in hashed.samples)))
    assert [sample.path for sample in read_split(tmp_path / "split.csv")] == [s.path for s in hashed.samples]
    for name in ("train-image.hdf5#ISIC_0000000", "none.hdf5#ISIC_0015670"):
        with pytest.raises(DataError, match="HDF5 file"):
            load_pixels(tmp_path, name)


def test_an_hdf5_file_without_encoded_images_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "train-image.hdf5"
    replicas.isic_2024_tables(tmp_path)
    for content in (b"no HDF5", None, "array", "link"):
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with h5py.File(path, "w") as file:
                if content == "array":
                    file["ISIC_0015670"] = [[1.0, 2.0]]
                if content == "link":
                    file["ISIC_0015670"] = h5py.ExternalLink("/etc/passwd", "x")
        with pytest.raises(DataError, match=r"train-image\.hdf5") as caught:
            read(tmp_path)
        assert "HDF5" in str(caught.value)


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train-image.hdf5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match="h5py") as caught:
        read(tmp_path)
    assert "[hdf5]" in str(caught.value)


def test_an_hdf5_file_beside_image_files_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replicas.isic_2024(tmp_path)
    (tmp_path / "train-image.hdf5").write_bytes(b"not opened")
    assert len(read(tmp_path).samples) == 2
    assert "not read: train-image.hdf5 (the folder has image files)" in capsys.readouterr().err


def remove(*names: str) -> Callable[[Path], None]:
    def removed(root: Path) -> None:
        for name in names:
            shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return removed


INCOMPLETE: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], str]] = {
    "HAM10000's table": (
        replicas.ham10000,
        remove("HAM10000_metadata"),
        "looks like HAM10000: HAM10000_metadata.csv is",
    ),
    "HAM10000's images": (
        replicas.ham10000,
        remove("HAM10000_images_part_1", "HAM10000_images_part_2"),
        "looks like HAM10000: HAM10000_metadata is here, but its images",
    ),
    "HAM10000's second part": (
        replicas.ham10000,
        remove("HAM10000_images_part_2"),
        "1 images of HAM10000_metadata are missing: ISIC_0034263",
    ),
    "ISIC 2016's table": (
        replicas.isic_2016,
        remove("ISBI2016_ISIC_Part3_Training_GroundTruth.csv"),
        "looks like ISIC 2016: ISBI2016_ISIC_Part3_Training_GroundTruth.csv is missing",
    ),
    "ISIC 2018's images": (
        replicas.isic_2018,
        remove("ISIC2018_Task3_Training_Input"),
        "ISIC2018_Task3_Training_GroundTruth.csv is here, but its images are missing",
    ),
    "ISIC 2018's table": (
        replicas.isic_2018,
        remove("ISIC2018_Task3_Training_GroundTruth"),
        "looks like ISIC 2018: ISIC2018_Task3_Training_GroundTruth.csv is missing",
    ),
    "ISIC 2020's table": (replicas.isic_2020, remove("train.csv"), "looks like ISIC 2020: train.csv is missing"),
    "ISIC 2024's table": (replicas.isic_2024, remove("train-metadata.csv"), "train-metadata.csv is missing"),
    "the archive's table": (
        replicas.isic_cli,
        remove("metadata.csv"),
        "looks like images of the ISIC archive: metadata",
    ),
    "MILK10k's metadata": (
        replicas.milk10k,
        remove("MILK10k_Training_Metadata.csv"),
        "no table says which images show them",
    ),
    "MILK10k's truth": (
        replicas.milk10k,
        remove("MILK10k_Training_GroundTruth.csv"),
        "looks like MILK10k: MILK10k_Training_GroundTruth.csv is missing",
    ),
    "BCN20000's table": (replicas.bcn20000, remove("bcn_20k_train.csv"), "looks like BCN20000: bcn_20k_train.csv is"),
    "PAD-UFES-20's table": (pad_ufes, remove("metadata.csv"), "looks like PAD-UFES-20: metadata.csv is missing"),
    "PAD-UFES-20's second part": (
        pad_ufes,
        remove("imgs_part_2"),
        "1 images of metadata.csv are missing: PAT_46_881_939.png",
    ),
    "Fitzpatrick17k's table": (
        replicas.fitzpatrick17k,
        remove("fitzpatrick17k.csv"),
        "looks like Fitzpatrick17k: fitzpatrick17k.csv is missing",
    ),
    "DDI's images": (replicas.ddi, remove("000001.png", "000002.png"), "looks like DDI: ddi_metadata.csv is here, but"),
    "SCIN's labels": (replicas.scin, remove("dataset/scin_labels.csv"), "but scin_labels.csv is missing"),
    "SCIN's cases": (replicas.scin, remove("dataset/scin_cases.csv"), "but scin_cases.csv is missing"),
    "SCIN's tables": (
        replicas.scin,
        remove("dataset/scin_cases.csv", "dataset/scin_labels.csv"),
        "looks like SCIN: scin_cases.csv and scin_labels.csv are missing",
    ),
    "Derm7pt's tables": (replicas.derm7pt, remove("meta"), "looks like Derm7pt: meta/meta.csv is missing"),
    "Derm7pt's images": (replicas.derm7pt, remove("images"), "but its images (images/) are missing"),
    "PH2's table": (replicas.ph2, remove("PH2_dataset.txt"), "looks like PH2: PH2_dataset.txt is missing"),
    "PH2's images": (replicas.ph2, remove("PH2 Dataset images"), "PH2_dataset.txt is here, but its images"),
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_a_part_of_a_dataset_says_what_is_missing(tmp_path: Path, case: str) -> None:
    make, damage, message = INCOMPLETE[case]
    make(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path)


def test_folders_with_the_names_of_conditions_are_classes_whatever_their_images_are_called(tmp_path: Path) -> None:
    for label, image in (("nevus", "PAT_1_2_3"), ("melanoma", "ISIC_0000001"), ("bcc", "bcc001"), ("scc", "scc001")):
        images(tmp_path / label, f"{image}.png")
    assert read(tmp_path).kind == "class folders"


def test_folders_of_the_users_own_classes_may_hold_images_of_the_archive(tmp_path: Path) -> None:
    for number, label in enumerate(("Typ A", "Typ B")):
        images(tmp_path / label, f"ISIC_000000{number}.png")
    assert read(tmp_path).labels == ("Typ A", "Typ B")


def test_a_table_in_place_of_the_missing_one_is_named(tmp_path: Path) -> None:
    replicas.ham10000(tmp_path)
    (tmp_path / "HAM10000_metadata").rename(tmp_path / "notes.csv")
    (tmp_path / "notes.csv").write_text("lesion;remark\nHAM_1;large\n")
    with pytest.raises(DataError, match=r"not understood: notes\.csv \(columns lesion, remark\)"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image_id,melanoma,seborrheic_keratosis\n0,0,0\n1,1,0\n2,0,1",
            "numbers its rows instead of naming the images",
        ),
        ("id,label\n0,nevus\n1,melanoma\n2,nevus", "looks like ISIC 2017"),
        (",melanoma,seborrheic_keratosis\n0,0,0\n1,1,0\n2,0,1", "it labels rows (melanoma, seborrheic_keratosis), but"),
        ("melanoma,seborrheic_keratosis\n0,0\n1,0\n0,1", "it labels rows (melanoma, seborrheic_keratosis), but"),
    ],
)
def test_a_copy_that_numbers_rows_is_refused(tmp_path: Path, text: str, message: str) -> None:
    replicas.isic_2017(tmp_path)
    (tmp_path / "ISIC-2017_Training_Data_metadata.csv").unlink()
    (tmp_path / "ISIC-2017_Training_Part3_GroundTruth.csv").write_text(text + "\n")
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path)


def test_a_table_without_a_header_needs_two_columns(tmp_path: Path) -> None:
    replicas.isic_2016(tmp_path)
    path = tmp_path / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
    path.write_text("ISIC_0000000,benign,x\nISIC_0000002,malignant,y\n")
    with pytest.raises(DataError, match=r"GroundTruth\.csv|first row"):
        read(tmp_path)


def test_a_domain_is_not_asserted_from_names(tmp_path: Path) -> None:
    """The ISIC archive has clinical images too; HAM10000's are all dermoscopic; a clinic's table proves nothing."""
    for number, label in enumerate(("mel", "nv")):
        images(tmp_path / "archive" / label, f"ISIC_0{number}00000.png")
        images(tmp_path / "ham" / label, f"ISIC_002430{6 + number}.png")
        images(tmp_path / "clinic", f"clinic_{number}.png")
    table(tmp_path / "clinic", "t.csv", "image_id,lesion_id,dx\nclinic_0,1,mel\nclinic_1,2,nv")
    assert [read(tmp_path / name).domain for name in ("archive", "ham", "clinic")] == [
        "unknown",
        "dermoscopic",
        "unknown",
    ]
    table(
        tmp_path / "archive",
        "m.csv",
        "isic_id,image_type\nISIC_0000000,clinical: close-up\nISIC_0100000,TBP tile: overview",
    )
    assert read(tmp_path / "archive").domain == "clinical"
    table(tmp_path / "archive", "m.csv", "isic_id,image_type\nISIC_0000000,clinical: close-up\nISIC_0100000,RCM: tile")
    assert read(tmp_path / "archive").domain == "unknown"


def test_an_image_without_a_diagnosis_is_left_out_only_where_the_publisher_gives_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replicas.isic_cli(tmp_path)
    assert len(read(tmp_path).samples) == 2
    assert "left out: 1 images without a diagnosis in metadata.csv" in capsys.readouterr().err


def found_problems(root: Path) -> list[tuple[str, tuple[str, ...]]]:
    return [(problem.what, problem.cases) for problem in survey(root).problems]


def test_problems_of_scin_are_listed_together(tmp_path: Path) -> None:
    replicas.scin(tmp_path)
    path = tmp_path / "dataset" / "scin_labels.csv"
    rows = path.read_text().replace("{'SCC/SCCIS': 1.0}", "SCC")
    path.write_text(rows + "13,{'Tinea': 1.0},,,,,\n")
    (tmp_path / "dataset" / "images" / "other.png").write_bytes(b"")
    assert found_problems(tmp_path) == [
        ("cases with two different conditions in dataset/scin_labels.csv", ("case 13",)),
        ("cells are no list of conditions with weights in dataset/scin_labels.csv", ("case 12 ('SCC')",)),
        ("images have no row in dataset/scin_cases.csv", ("dataset/images/other.png",)),
    ]


def test_problems_of_derm7pt_and_of_an_imagefolder_are_listed_together(tmp_path: Path) -> None:
    replicas.derm7pt(tmp_path / "derm7pt")
    (tmp_path / "derm7pt" / "meta" / "train_indexes.csv").write_text("indexes\n0\n1\n7\n")
    (tmp_path / "derm7pt" / "images" / "NEL" / "NEL030.JPG").unlink()
    assert [cases for _, cases in found_problems(tmp_path / "derm7pt")] == [
        ("NEL/NEL030.JPG",),
        ("row 1 (in two)", "row 7 (no such row)"),
    ]
    replicas.imagefolder_splits(tmp_path / "folder")
    (tmp_path / "folder" / "test" / "0001.png").unlink()
    table(tmp_path / "folder" / "train", "metadata.csv", "file_name,label\n0001.png,mel\ntrain.png,")
    expected = [
        ("images of test/metadata.csv are missing", ("0001.png",)),
        ("rows without label in train/metadata.csv", ("train.png",)),
    ]
    assert found_problems(tmp_path / "folder") == expected
    table(tmp_path / "folder", "metadata.csv", "file_name,label\nvalidation/0001.png,nv\ntrain/train.PNG,mel")
    contradictions = ("train/train.png", "validation/0001.png")
    assert found_problems(tmp_path / "folder") == [
        *expected,
        ("images have different labels in two tables", contradictions),
    ]


def test_a_folder_below_its_table_with_other_columns_says_how_to_name_them(tmp_path: Path) -> None:
    replicas.isic_cli(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    table(tmp_path, "t.csv", "photo,finding\nISIC_0024306,nv\nISIC_0024307,mel\nISIC_0053453,nv")
    table(tmp_path, "u.csv", "a,b\n1,2,3")
    with pytest.raises(DataError, match="looks like images of the ISIC archive") as caught:
        read(tmp_path)
    assert "If t.csv labels them: --table t.csv --columns image=COLUMN,label=COLUMN" in str(caught.value)
    assert "not read: u.csv (line 2 has more cells than the header)" in str(caught.value)
    named = read(tmp_path, ReadOptions("t.csv", {"image": "photo", "label": "finding"}))
    assert named.labels == ("mel", "nv") and len(named.samples) == 3


def test_few_loose_images_beside_class_folders_are_listed(tmp_path: Path) -> None:
    for number, label in enumerate(("Typ A", "Typ B")):
        images(tmp_path / label, f"ISIC_000000{number}.png", f"ISIC_000010{number}.png")
    images(tmp_path, "ISIC_0000009.png")
    assert found_problems(tmp_path) == [("images are in no class folder", ("ISIC_0000009.png",))]


def test_a_sample_submission_is_used_only_where_it_is_named(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    table(tmp_path, "sample_submission.csv", "image,target\na,0\nb,1")
    with pytest.raises(DataError, match="no class folder"):
        read(tmp_path)
    (tmp_path / "broken.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(DataError, match="tables beside the images cannot be read"):
        read(tmp_path)
    assert read(tmp_path, ReadOptions("sample_submission.csv")).labels == ("benign", "malignant")


def test_a_plan_leaves_out_an_image_of_an_hdf5_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    replicas.isic_2024_hdf5(tmp_path)
    image = "train-image.hdf5#ISIC_0015670"
    path = tmp_path.parent / f"{tmp_path.name}-plan.csv"
    path.write_text(to_text([PlanRow(LEAVE_OUT, image, sha256=content_hash(tmp_path, image))]))
    kept = survey(tmp_path, ReadOptions(plan=path)).dataset
    assert [sample.image_id for sample in kept.samples] == ["ISIC_0015845"]
