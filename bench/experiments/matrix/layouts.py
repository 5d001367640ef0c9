"""Replicas of public datasets: their folders, tables and spellings as they are downloaded, with new photos."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from experiments.matrix.photos import photo, write_photos

Rows = list[list[str]]
COUNT = 12  # images, two of a lesion, four of a patient; the first half melanoma, the others nevus


@dataclass(frozen=True)
class Truth:
    """What must be read of an image; '' for what no table tells."""

    label: str
    lesion: str = ""
    patient: str = ""
    split: str = ""


@dataclass(frozen=True)
class Layout:
    """A dataset's folder.

    domain: as `data info` tells it; images: path -> what must be read of it; tables: name -> rows, header first, the
    table of labels first; key: column of the image ids in it; one_hot: its columns are classes; labels_in_table: False
    where it tells only lesions; others: path -> content of everything else.
    """

    name: str
    domain: str
    images: Mapping[str, Truth]
    tables: Mapping[str, Rows] = field(default_factory=dict)
    key: str = ""
    one_hot: bool = False
    labels_in_table: bool = True
    others: Mapping[str, bytes] = field(default_factory=dict)

    def write(self, root: Path, tables: Mapping[str, bytes] | None = None) -> None:
        """Write the folder. tables: name -> content, instead of the layout's own."""
        write_photos(root, [path for path in self.images if "#" not in path])
        written = {name: as_csv(rows).encode() for name, rows in self.tables.items()} if tables is None else tables
        for name, content in {**written, **self.others}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)


def as_csv(rows: Rows, delimiter: str = ",", line: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    """Return rows as text."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=line, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


def labelled(paths: Sequence[str], labels: tuple[str, str], lesion: str = "", patient: str = "") -> dict[str, Truth]:
    """Return what must be read of each image. lesion, patient: prefixes of the ids, '' where they are not told."""
    return {
        path: Truth(labels[n >= COUNT // 2], f"{lesion}{n // 2}" * bool(lesion), f"{patient}{n // 4}" * bool(patient))
        for n, path in enumerate(paths)
    }


def rows_of(header: str, images: Mapping[str, Truth], row: Callable[[int, str, Truth], str]) -> Rows:
    """Return a table with a row for each image; header and rows as comma-separated text."""
    return [header.split(","), *(row(n, path, truth).split(",") for n, (path, truth) in enumerate(images.items()))]


def stem(path: str) -> str:
    return Path(path).stem


def ham10000() -> Layout:
    paths = [f"HAM10000_images_part_{1 + n % 2}/ISIC_00243{n:02}.jpg" for n in range(COUNT)]
    images = labelled(paths, ("mel", "nv"), "HAM_000")
    rows = rows_of("lesion_id,image_id,dx,dx_type,age,sex,localization", images,
                   lambda n, p, t: f"{t.lesion},{stem(p)},{t.label},histo,80.0,male,back")  # fmt: skip
    return Layout("HAM10000", "dermoscopic", images, {"HAM10000_metadata.csv": rows}, "image_id")


def isic_2016() -> Layout:
    paths = [f"ISBI2016_ISIC_Part3_Training_Data/ISIC_00000{n:02}.jpg" for n in range(COUNT)]
    images = labelled(paths, ("malignant", "benign"))
    rows = [[stem(path), truth.label] for path, truth in images.items()]  # without a header
    return Layout("ISIC 2016", "dermoscopic", images, {"ISBI2016_ISIC_Part3_Training_GroundTruth.csv": rows})


def isic_2017() -> Layout:
    paths = [f"ISIC-2017_Training_Data/ISIC_00000{n:02}.jpg" for n in range(COUNT)]
    images = labelled(paths, ("melanoma", "nevus"))
    rows = rows_of("image_id,melanoma,seborrheic_keratosis", images,
                   lambda n, p, t: f"{stem(p)},{float(t.label == 'melanoma')},0.0")  # fmt: skip
    masks = {f"ISIC-2017_Training_Data/{stem(path)}_superpixels.png": photo(90, "PNG") for path in paths}
    tables = {"ISIC-2017_Training_Part3_GroundTruth.csv": rows}
    return Layout("ISIC 2017", "dermoscopic", images, tables, "image_id", True, others=masks)


def one_hot(folder: str, classes: str, suffix: str = "") -> tuple[dict[str, Truth], Rows]:
    paths = [f"{folder}/ISIC_00000{n:02}{suffix * (n % 2)}.jpg" for n in range(COUNT)]
    images = labelled(paths, ("MEL", "NV"), "BCN_")
    names = classes.split(",")
    rows = rows_of(f"image,{classes}", images,
                   lambda n, p, t: ",".join([stem(p), *(str(float(t.label == name)) for name in names)]))  # fmt: skip
    return images, rows


def isic_2018() -> Layout:
    images, rows = one_hot("ISIC2018_Task3_Training_Input", "MEL,NV,BCC,AKIEC,BKL,DF,VASC")
    images = {path: Truth(truth.label) for path, truth in images.items()}
    tables = {"ISIC2018_Task3_Training_GroundTruth.csv": rows}
    return Layout("ISIC 2018", "dermoscopic", images, tables, "image", True, others={"ATTRIBUTION.txt": b"x"})


def isic_2019() -> Layout:
    classes = "MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    images, rows = one_hot("ISIC_2019_Training_Input", classes, "_downsampled")
    metadata = rows_of("image,age_approx,anatom_site_general,lesion_id,sex", images,
                       lambda n, p, t: f"{stem(p)},55.0,anterior torso,{t.lesion},female")  # fmt: skip
    tables = {"ISIC_2019_Training_GroundTruth.csv": rows, "ISIC_2019_Training_Metadata.csv": metadata}
    return Layout("ISIC 2019", "dermoscopic", images, tables, "image", True)


def isic_2020() -> Layout:
    paths = [f"ISIC_2020_Training_JPEG/train/ISIC_00157{n:02}.jpg" for n in range(COUNT)]
    images = labelled(paths, ("melanoma", "nevus"), patient="IP_")
    header = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"
    rows = rows_of(header, images, lambda n, p, t: f"{stem(p)},{t.patient},male,45.0,head/neck,{t.label},"
                   + ("malignant,1" if t.label == "melanoma" else "benign,0"))  # fmt: skip
    return Layout("ISIC 2020", "dermoscopic", images, {"train.csv": rows}, "image_name")


def isic_2024() -> Layout:
    paths = [f"train-image/image/ISIC_00156{n:02}.jpg" for n in range(COUNT)]
    images = labelled(paths, ("Melanoma", "Nevus"), patient="IP_")
    header = (
        "isic_id,target,patient_id,age_approx,sex,anatom_site_general,tbp_lv_A,iddx_full,iddx_1,iddx_2,iddx_3,iddx_4"
    )
    tree = {"Melanoma": "Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma,",
            "Nevus": "Benign,Benign melanocytic proliferations,Nevus,"}  # fmt: skip
    rows = rows_of(header, images, lambda n, p, t: f"{stem(p)},{int(t.label == 'Melanoma')},{t.patient},60.0,male,"
                   f"head/neck,20.24,{'::'.join(tree[t.label].strip(',').split(','))},{tree[t.label]}")  # fmt: skip
    return Layout("ISIC 2024", "clinical", images, {"train-metadata.csv": rows}, "isic_id")


def isic_cli() -> Layout:
    images = labelled([f"ISIC_00243{n:02}.jpg" for n in range(COUNT)], ("Melanoma", "Nevus"), "IL_", "IP_")
    header = "isic_id,attribution,copyright_license,age_approx,diagnosis_1,diagnosis_2,diagnosis_3,image_type,lesion_id"
    tree = {"Melanoma": "Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma",
            "Nevus": "Benign,Benign melanocytic proliferations,Nevus"}  # fmt: skip
    rows = rows_of(f"{header},patient_id,sex", images, lambda n, p, t: f"{stem(p)},ViDIR Group,CC-BY-NC,45,"
                   f"{tree[t.label]},dermoscopic,{t.lesion},{t.patient},male")  # fmt: skip
    others = {"attribution.txt": b"ViDIR Group\n", "licenses/CC-BY-NC.txt": b"x"}
    return Layout("isic-cli", "dermoscopic", images, {"metadata.csv": rows}, "isic_id", others=others)


def milk10k() -> Layout:
    paths = [f"MILK10k_Training_Input/IL_{n // 2:07}/ISIC_00001{n:02}.jpg" for n in range(COUNT)]
    images = labelled(paths, ("MEL", "NV"), "IL_000000")
    classes = ["AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC"]
    firsts = dict(list(images.items())[::2])
    truth = rows_of(",".join(["lesion_id", *classes]), firsts,
                    lambda n, p, t: ",".join([t.lesion, *(str(int(t.label == name)) for name in classes)]))  # fmt: skip
    metadata = rows_of(
        "lesion_id,image_type,isic_id,attribution,age_approx,sex,skin_tone_class,site", images, lambda n, p, t:
        f"{t.lesion},{('clinical: close-up', 'dermoscopic')[n % 2]},{stem(p)},x,60,male,{n % 6},trunk")  # fmt: skip
    tables = {"MILK10k_Training_GroundTruth.csv": truth, "MILK10k_Training_Metadata.csv": metadata}
    return Layout("MILK10k", "mixed", images, tables, "lesion_id", True)


def bcn20000() -> Layout:
    images = labelled([f"BCN_20k_train/BCN_00000000{n:02}.jpg" for n in range(COUNT)], ("MEL", "NV"), "BCN_000")
    header = "bcn_filename,age_approx,anatom_site_general,diagnosis,lesion_id,capture_date,sex,split"
    rows = rows_of(header, images, lambda n, p, t: f"{Path(p).name},55.0,anterior torso,{t.label},{t.lesion},"
                   "2012-05-16,male,train")  # fmt: skip
    return Layout("BCN20000", "dermoscopic", images, {"bcn_20k_train.csv": rows}, "bcn_filename")


def pad_ufes() -> Layout:
    paths = [f"imgs_part_{1 + n % 3}/PAT_{n // 4}_{n // 2}_{n}.png" for n in range(COUNT)]
    images = labelled(paths, ("MEL", "NEV"), "1", "PAT_")
    header = "patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,img_id,biopsed"
    rows = rows_of(header, images, lambda n, p, t: f"{t.patient},{t.lesion},False,55,FEMALE,{1 + n % 6}.0,NECK,"
                   f"{t.label},{Path(p).name},True")  # fmt: skip
    return Layout("PAD-UFES-20", "clinical", images, {"metadata.csv": rows}, "img_id")


def fitzpatrick17k() -> Layout:
    images = labelled([f"data/{n:032x}.jpg" for n in range(COUNT)], ("melanoma", "psoriasis"))
    header = "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,three_partition_label,qc,url"
    parts = {"melanoma": "malignant melanoma,malignant", "psoriasis": "inflammatory,non-neoplastic"}
    rows = rows_of(header, images, lambda n, p, t: f"{stem(p)},{(-1, 1, 6)[n % 3]},1,{t.label},{parts[t.label]},,x")
    return Layout("Fitzpatrick17k", "clinical", images, {"fitzpatrick17k.csv": rows}, "md5hash")


def ddi() -> Layout:
    images = labelled([f"{n:06}.png" for n in range(COUNT)], ("melanoma-in-situ", "seborrheic-keratosis"))
    rows = rows_of(",DDI_ID,DDI_file,skin_tone,malignant,disease", images, lambda n, p, t:
                   f"{n},{n},{p},{(12, 34, 56)[n % 3]},{t.label.startswith('melanoma')},{t.label}")  # fmt: skip
    return Layout("DDI", "clinical", images, {"ddi_metadata.csv": rows}, "DDI_file")


def scin() -> Layout:
    images = labelled([f"dataset/images/{n}.png" for n in range(COUNT)], ("Melanoma", "Eczema"), "case")
    pairs = list(zip(list(images)[::2], list(images)[1::2], strict=True))
    cases = [["case_id", "age_group", "sex_at_birth", "image_1_path", "image_2_path", "image_3_path"]]
    cases += [[f"case{k}", "AGE_40_TO_49", "FEMALE", one, two, ""] for k, (one, two) in enumerate(pairs)]
    header = "case_id,weighted_skin_condition_label,dermatologist_fitzpatrick_skin_type_label_1"
    labels = [[*header.split(","), "monk_skin_tone_label_us", "monk_skin_tone_label_india"]]
    labels += [[f"case{k}", f"{{'{images[one].label}': 0.67, 'Tinea': 0.33}}", f"FST{1 + k % 6}", "3", "4"]
               for k, (one, _) in enumerate(pairs)]  # fmt: skip
    tables = {"dataset/scin_labels.csv": labels, "dataset/scin_cases.csv": cases}
    return Layout("SCIN", "clinical", images, tables, "case_id")


def derm7pt() -> Layout:
    paths = [f"images/N{'EL'[k % 2]}L/Nel{k:03}.jpg" for k in range(COUNT)]
    parts = ("train", "valid", "test")
    images = {
        path: replace(truth, split=parts[n % 3].removesuffix("id"))
        for n, (path, truth) in enumerate(labelled(paths, ("melanoma (less than 0.76 mm)", "clark nevus")).items())
    }
    clinic = {f"images/NGL/Ngl{k:03}.jpg": photo(200 + k) for k in range(COUNT)}
    rows = rows_of("case_num,diagnosis,seven_point_score,pigment_network,clinic,derm,location", images, lambda n, p, t:
                   f"{n + 1},{t.label},1,absent,NGL/Ngl{n:03}.jpg,{p.removeprefix('images/')},back")  # fmt: skip
    indexes = {f"meta/{part}_indexes.csv": [["indexes"], *([str(n)] for n in range(first, COUNT, 3))]
               for first, part in enumerate(parts)}  # fmt: skip
    return Layout("Derm7pt", "dermoscopic", images, {"meta/meta.csv": rows, **indexes}, "derm", others=clinic)


def ph2() -> Layout:
    folder = "PH2Dataset/PH2 Dataset images/IMD{0:03}/IMD{0:03}"
    paths = [f"{folder.format(n)}_Dermoscopic_Image/IMD{n:03}.bmp" for n in range(COUNT)]
    images = labelled(paths, ("melanoma", "common nevus"))
    masks = {f"{folder.format(n)}_lesion/IMD{n:03}_lesion.bmp": photo(300 + n, "BMP") for n in range(COUNT)}
    lines = ["|| Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry ||"]
    lines += [f"|| {stem(p)} ||  || {2 if t.label == 'melanoma' else 0} || 0 ||" for p, t in images.items()]
    others = {**masks, "PH2Dataset/PH2_dataset.txt": "\n".join(lines).encode()}
    return Layout("PH2", "dermoscopic", images, others=others)


def by_folder(name: str, domain: str, labels: tuple[str, str], pattern: str, parts: Mapping[str, str]) -> Layout:
    """Return class folders. parts: folder -> split."""
    images = {
        pattern.format(part=part, label=label, n=f"{k}{n}"): Truth(label, split=split)
        for k, (part, split) in enumerate(parts.items())
        for label in labels
        for n in range(6)
    }
    return Layout(name, domain, images)


def dermnet() -> Layout:
    labels = "Melanoma Skin Cancer Nevi and Moles", "Eczema Photos"
    return by_folder("DermNet", "clinical", labels, "{part}/{label}/x-{n}.jpg", {"train": "train", "test": "test"})


def med_node() -> Layout:
    pattern = "complete_mednode_dataset/{label}/{n}.jpg"
    return by_folder("MED-NODE", "clinical", ("melanoma", "naevus"), pattern, {"": ""})


def class_folders() -> Layout:
    return by_folder("class folders", "unknown", ("mel", "nv"), "{label}/{label}{n}.jpg", {"": ""})


def split_folders() -> Layout:
    parts = {"train": "train", "val": "val", "test": "test"}
    return by_folder("class folders in train, val, test", "unknown", ("mel", "nv"), "{part}/{label}/{n}.jpg", parts)


def class_folders_with_lesions() -> Layout:
    images = labelled([f"{'mel' if n < 6 else 'nv'}/photo{n}.jpg" for n in range(COUNT)], ("mel", "nv"), "L")
    rows = rows_of("image_id,lesion_id,sex", images, lambda n, p, t: f"{stem(p)},{t.lesion},male")
    return Layout("class folders with lesions", "unknown", images, {"metadata.csv": rows}, "image_id", False, False)


def medmnist() -> Layout:
    arrays, images = {}, {}
    for split, first in (("train", 0), ("val", 4), ("test", 8)):
        pixels = np.random.default_rng(first).integers(0, 256, (4, 28, 28, 3)).astype(np.uint8)
        arrays |= {f"{split}_images": pixels, f"{split}_labels": np.array([[4], [5], [4], [5]], np.uint8)}
        images |= {f"dermamnist.npz#{split}/{n}": Truth(("mel", "nv")[n % 2], split=split) for n in range(4)}
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return Layout("MedMNIST", "dermoscopic", images, others={"dermamnist.npz": stream.getvalue()})


def hugging_face() -> Layout:
    images = labelled([f"train/{n:04}.png" for n in range(COUNT)], ("melanoma", "nevus"))
    rows = rows_of("file_name,label", images, lambda n, p, t: f"{Path(p).name},{t.label}")
    return Layout("imagefolder, CSV", "unknown", images, {"train/metadata.csv": rows}, "file_name")


def hugging_face_lines() -> Layout:
    images = hugging_face().images
    lines = [json.dumps({"file_name": Path(path).name, "label": truth.label}) for path, truth in images.items()]
    others = {"train/metadata.jsonl": "\n".join(lines).encode()}
    return Layout("imagefolder, JSON lines", "unknown", images, others=others)


def plain() -> Layout:
    images = labelled([f"photos/photo {n}.jpg" for n in range(COUNT)], ("Melanom, fr\u00fch", "N\u00e4vus"))
    rows: Rows = [["file", "class"], *([Path(path).name, truth.label] for path, truth in images.items())]
    return Layout("a table of its own", "unknown", images, {"labels.csv": rows}, "file")


LAYOUTS: tuple[Callable[[], Layout], ...] = (
    ham10000, isic_2016, isic_2017, isic_2018, isic_2019, isic_2020, isic_2024, isic_cli, milk10k, bcn20000, pad_ufes,
    fitzpatrick17k, ddi, scin, derm7pt, ph2, dermnet, med_node, class_folders, split_folders,
    class_folders_with_lesions, medmnist, hugging_face, hugging_face_lines, plain,
)  # fmt: skip
