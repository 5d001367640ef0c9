"""A replica of each public dataset's folder, as it is downloaded, is read without renaming anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.data.dataset import Dataset, load_pixels, read_split, write_split
from skinedge.data.hashing import hash_images
from skinedge.data.readers import read
from skinedge.data.split import check_split, split, unit_of


def images(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 17 % 256, 80, len(name))).save(path)


def table(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")


def isic_2017(root: Path) -> None:
    images(root / "ISIC-2017_Training_Data", "ISIC_0000000.jpg", "ISIC_0000001.jpg", "ISIC_0000002.jpg")
    images(root / "ISIC-2017_Training_Data", "ISIC_0000000_superpixels.png")
    table(
        root,
        "ISIC-2017_Training_Part3_GroundTruth.csv",
        """image_id,melanoma,seborrheic_keratosis
        ISIC_0000000,0.0,0.0
        ISIC_0000001,1.0,0.0
        ISIC_0000002,0.0,1.0""",
    )


def isic_2019(root: Path) -> None:
    images(root / "ISIC_2019_Training_Input", "ISIC_0000000.jpg", "ISIC_0000002_downsampled.jpg")
    table(
        root,
        "ISIC_2019_Training_GroundTruth.csv",
        """image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
        ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
        ISIC_0000002_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0""",
    )
    table(
        root,
        "ISIC_2019_Training_Metadata.csv",
        """image,age_approx,anatom_site_general,lesion_id,sex
        ISIC_0000000,55.0,anterior torso,BCN_1,female
        ISIC_0000002_downsampled,30.0,,,male""",
    )


def isic_2020(root: Path) -> None:
    images(root / "ISIC_2020_Training_JPEG" / "train", "ISIC_2637011.jpg", "ISIC_0015719.jpg")
    table(
        root,
        "train.csv",
        """image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target
        ISIC_2637011,IP_7279968,male,45.0,head/neck,nevus,benign,0
        ISIC_0015719,IP_3075186,female,45.0,upper extremity,melanoma,malignant,1""",
    )


def isic_2024(root: Path) -> None:
    images(root / "train-image" / "image", "ISIC_0015670.jpg", "ISIC_0015845.jpg")
    table(
        root,
        "train-metadata.csv",
        """isic_id,target,patient_id,age_approx,sex,anatom_site_general,iddx_full,iddx_1,iddx_2,iddx_3,iddx_4,iddx_5
        ISIC_0015670,0,IP_1235828,60.0,male,lower extremity,Benign,Benign,,,,
        ISIC_0015845,1,IP_8170065,60.0,male,head/neck,Malignant::x::Melanoma,Malignant,x,Melanoma,,""",
    )


def isic_cli(root: Path) -> None:
    images(root, "ISIC_0024306.jpg", "ISIC_0024307.jpg")
    table(
        root,
        "metadata.csv",
        """isic_id,attribution,age_approx,diagnosis_1,diagnosis_2,diagnosis_3,image_type,lesion_id,patient_id,sex
        ISIC_0024306,ViDIR,45,Benign,Benign melanocytic proliferations,Nevus,dermoscopic,IL_1,IP_1,male
        ISIC_0024307,ViDIR,50,Malignant,Malignant melanocytic,Melanoma,dermoscopic,IL_2,IP_1,male""",
    )
    table(root, "attribution.txt", "ViDIR Group")


def milk10k(root: Path) -> None:
    images(root / "MILK10k_Training_Input", *(f"IL_{k}/ISIC_000001{k}{j}.jpg" for k in range(2) for j in range(2)))
    table(
        root,
        "MILK10k_Training_GroundTruth.csv",
        """lesion_id,AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC
        IL_0,0,0,0,0,0,0,0,1,0,0,0
        IL_1,0,0,0,0,0,0,0,0,1,0,0""",
    )
    table(
        root,
        "MILK10k_Training_Metadata.csv",
        """lesion_id,image_type,isic_id,attribution,age_approx,sex,skin_tone_class,site
        IL_0,clinical: close-up,ISIC_00000100,x,60,male,3,trunk
        IL_0,dermoscopic,ISIC_00000101,x,60,male,3,trunk
        IL_1,clinical: close-up,ISIC_00000110,x,60,male,3,trunk
        IL_1,dermoscopic,ISIC_00000111,x,60,male,3,trunk""",
    )


def bcn20000(root: Path) -> None:
    images(root / "BCN_20k_train", "BCN_0000000001.jpg", "BCN_0000000003.jpg")
    table(
        root,
        "bcn_20k_train.csv",
        """bcn_filename,age_approx,anatom_site_general,diagnosis,lesion_id,capture_date,sex,split
        BCN_0000000001.jpg,55.0,anterior torso,MEL,BCN_0003884,2012-05-16,male,train
        BCN_0000000003.jpg,50.0,anterior torso,NV,BCN_0000019,2015-07-09,female,train""",
    )


def pad_ufes(root: Path) -> None:
    images(root, "imgs_part_1/PAT_1516_1765_530.png", "imgs_part_2/PAT_46_881_939.png")
    table(
        root,
        "metadata.csv",
        """patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,img_id,biopsed
        PAT_1516,1765,,8,,,ARM,NEV,PAT_1516_1765_530.png,False
        PAT_46,881,False,55,FEMALE,3.0,NECK,BCC,PAT_46_881_939.png,True""",
    )


def fitzpatrick17k(root: Path) -> None:
    images(root / "data", "5e82a45bc5d78bd24ae9202d194423f8.jpg", "fa2911a9b13b6f8af79cb700937cc14f.jpg")
    table(
        root,
        "fitzpatrick17k.csv",
        """md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,three_partition_label,qc,url
        5e82a45bc5d78bd24ae9202d194423f8,3,3,melanoma,malignant melanoma,malignant,,x
        fa2911a9b13b6f8af79cb700937cc14f,-1,1,psoriasis,inflammatory,non-neoplastic,,y""",
    )


def ddi(root: Path) -> None:
    images(root, "000001.png", "000002.png")
    table(
        root,
        "ddi_metadata.csv",
        """,DDI_ID,DDI_file,skin_tone,malignant,disease
        0,1,000001.png,56,True,melanoma-in-situ
        1,2,000002.png,12,False,seborrheic-keratosis""",
    )


def derm7pt(root: Path) -> None:
    images(root / "images", "NEL/NEL025.JPG", "NEL/NEL027.JPG", "NGL/NGL001.jpg", "NGL/NGL002.jpg")
    table(
        root,
        "meta/meta.csv",
        """case_num,diagnosis,seven_point_score,clinic,derm
        1,clark nevus,1,NEL/NEL025.JPG,NEL/NEL027.JPG
        2,melanoma (less than 0.76 mm),5,NGL/NGL001.jpg,NGL/NGL002.jpg""",
    )


def ph2(root: Path) -> None:
    for number in ("003", "058"):
        folder = f"PH2 Dataset images/IMD{number}/IMD{number}"
        images(root, f"{folder}_Dermoscopic_Image/IMD{number}.bmp", f"{folder}_lesion/IMD{number}_lesion.bmp")
        images(root, f"PH2 Dataset images/IMD{number}/IMD{number}_roi/IMD{number}_R1_Label1.bmp")
    table(
        root,
        "PH2_dataset.txt",
        """|| Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry ||
        || IMD003 ||  || 0 || 0 ||
        || IMD058 || Melanoma || 2 || 1 ||""",
    )


def hugging_face(root: Path) -> None:
    images(root / "train", "0001.png", "0002.png")
    table(
        root / "train",
        "metadata.jsonl",
        '{"file_name": "0001.png", "label": "mel"}\n{"file_name": "0002.png", "label": "nv"}',
    )


def dermnet(root: Path) -> None:
    for part in ("train", "test"):
        for label in ("Melanoma Skin Cancer Nevi and Moles", "Eczema Photos"):
            images(root / part / label, f"{part}-{label}-1.jpg")


# layout -> (kind, domain, {label: images}, patients)
LAYOUTS: dict[Callable[[Path], None], tuple[str, str, dict[str, int], int]] = {
    isic_2017: ("ISIC challenge", "dermoscopic", {"nevus": 1, "melanoma": 1, "seborrheic_keratosis": 1}, 0),
    isic_2019: ("ISIC challenge", "dermoscopic", {"NV": 1, "MEL": 1}, 0),
    isic_2020: ("ISIC 2020", "dermoscopic", {"nevus": 1, "melanoma": 1}, 2),
    isic_2024: ("ISIC 2024 (SLICE-3D)", "clinical", {"Benign": 1, "Melanoma": 1}, 2),
    isic_cli: ("ISIC archive", "dermoscopic", {"Nevus": 1, "Melanoma": 1}, 1),
    milk10k: ("MILK10k", "mixed", {"MEL": 2, "NV": 2}, 0),
    bcn20000: ("BCN20000", "dermoscopic", {"MEL": 1, "NV": 1}, 0),
    pad_ufes: ("PAD-UFES-20", "clinical", {"NEV": 1, "BCC": 1}, 2),
    fitzpatrick17k: ("Fitzpatrick17k", "clinical", {"melanoma": 1, "psoriasis": 1}, 0),
    ddi: ("DDI", "clinical", {"melanoma-in-situ": 1, "seborrheic-keratosis": 1}, 0),
    derm7pt: ("Derm7pt", "dermoscopic", {"clark nevus": 1, "melanoma (less than 0.76 mm)": 1}, 0),
    ph2: ("PH2", "dermoscopic", {"common nevus": 1, "melanoma": 1}, 0),
    hugging_face: ("labelled table", "unknown", {"mel": 1, "nv": 1}, 0),
    dermnet: ("class folders", "unknown", {"Melanoma Skin Cancer Nevi and Moles": 2, "Eczema Photos": 2}, 0),
}


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_a_dataset_is_read_as_it_is_downloaded(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    found = read(tmp_path)
    kind, domain, counts, patients = LAYOUTS[make]
    labels = [sample.label for sample in found.samples]
    assert (found.kind, found.domain) == (kind, domain)
    assert {label: labels.count(label) for label in found.labels} == counts
    assert len({sample.patient_id for sample in found.samples} - {""}) == patients


def test_what_is_told_of_an_image(tmp_path: Path) -> None:
    pad_ufes(tmp_path)
    nevus, carcinoma = sorted(read(tmp_path).samples, key=lambda sample: sample.label, reverse=True)
    assert (nevus.image_id, nevus.lesion_id, nevus.patient_id) == ("PAT_1516_1765_530", "1765", "PAT_1516")
    assert carcinoma.meta == {"sex": "FEMALE", "age": "55", "site": "NECK", "fitzpatrick": "3.0"}


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
    dermnet(tmp_path / "dermnet")
    assert unit_of(read(tmp_path / "dermnet").samples).startswith("by image, copies together")
