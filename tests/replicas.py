"""Replicas of public datasets' folders, as they are downloaded, with a few small images.

Spellings, columns and folders are those of the publishers (docs/data.md).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def images(root: Path, *names: str) -> None:
    """Write an image of noise under each name; other names, other noise."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(zlib.crc32(f"{root.name}/{name}".encode())).integers(
            0, 256, (8, 8, 3), dtype=np.uint8
        )
        Image.fromarray(noise).save(path)


def table(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(line.strip() for line in text.strip().splitlines()) + "\n")


def ham10000(root: Path) -> None:
    """As Harvard Dataverse names the table: without a suffix."""
    images(root / "HAM10000_images_part_1", "ISIC_0027419.jpg", "ISIC_0025030.jpg")
    images(root / "HAM10000_images_part_2", "ISIC_0034263.jpg")
    table(
        root,
        "HAM10000_metadata",
        """lesion_id,image_id,dx,dx_type,age,sex,localization,dataset
        HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp,vidir_modern
        HAM_0000118,ISIC_0025030,bkl,histo,80.0,male,scalp,vidir_modern
        HAM_0002730,ISIC_0034263,nv,follow_up,,unknown,unknown,rosendahl""",
    )


def isic_2016(root: Path) -> None:
    """A table without a header."""
    images(root / "ISBI2016_ISIC_Part3_Training_Data", "ISIC_0000000.jpg", "ISIC_0000002.jpg", "ISIC_0000004.jpg")
    table(
        root,
        "ISBI2016_ISIC_Part3_Training_GroundTruth.csv",
        """ISIC_0000000,benign
        ISIC_0000002,malignant
        ISIC_0000004,benign""",
    )


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
    table(
        root,
        "ISIC-2017_Training_Data_metadata.csv",
        """image_id,age_approximate,sex
        ISIC_0000000,55,female
        ISIC_0000001,unknown,unknown
        ISIC_0000002,60,male""",
    )


def isic_2018(root: Path) -> None:
    images(root / "ISIC2018_Task3_Training_Input", *(f"ISIC_002430{k}.jpg" for k in range(6, 9)))
    table(
        root,
        "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv",
        """image,MEL,NV,BCC,AKIEC,BKL,DF,VASC
        ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0
        ISIC_0024307,0.0,1.0,0.0,0.0,0.0,0.0,0.0
        ISIC_0024308,1.0,0.0,0.0,0.0,0.0,0.0,0.0""",
    )
    table(
        root,
        "ISIC2018_Task3_Training_LesionGroupings.csv",
        """image,lesion_id,diagnosis_confirm_type
        ISIC_0024306,HAM_0000550,follow_up
        ISIC_0024307,HAM_0000550,follow_up
        ISIC_0024308,HAM_0003577,histopathology""",
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
    isic_2024_tables(root)


def isic_2024_hdf5(root: Path) -> None:
    """The images in one HDF5 file each for training and test, as JPEG bytes."""
    import h5py

    for name, ids in (("train-image.hdf5", ("ISIC_0015670", "ISIC_0015845")), ("test-image.hdf5", ("ISIC_0015657",))):
        with h5py.File(root / name, "w") as file:
            for number, image in enumerate(ids):
                file.create_dataset(image, data=np.void(jpeg(number)))
    isic_2024_tables(root)


def jpeg(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (90 * number, 80, 3)).save(stream, "JPEG")
    return stream.getvalue()


def isic_2024_tables(root: Path) -> None:
    table(
        root,
        "train-metadata.csv",
        """isic_id,target,patient_id,age_approx,sex,anatom_site_general,iddx_full,iddx_1,iddx_2,iddx_3,iddx_4,iddx_5
        ISIC_0015670,0,IP_1235828,60.0,male,lower extremity,Benign,Benign,,,,
        ISIC_0015845,1,IP_8170065,60.0,male,head/neck,Malignant::x::Melanoma,Malignant,x,Melanoma,,""",
    )
    table(root, "test-metadata.csv", "isic_id,patient_id,age_approx,sex\nISIC_0015657,IP_6074337,45.0,male")
    table(root, "sample_submission.csv", "isic_id,target\nISIC_0015657,0.3")


def isic_cli(root: Path) -> None:
    """With an image that has no diagnosis, as many of BCN20000 have none."""
    images(root, "ISIC_0024306.jpg", "ISIC_0024307.jpg", "ISIC_0053453.jpg")
    table(
        root,
        "metadata.csv",
        """isic_id,attribution,age_approx,diagnosis_1,diagnosis_2,diagnosis_3,image_type,lesion_id,patient_id,sex,fitzpatrick_skin_type
        ISIC_0024306,ViDIR,45,Benign,Benign melanocytic proliferations,Nevus,dermoscopic,IL_1,IP_1,male,III
        ISIC_0024307,ViDIR,50,Malignant,Malignant melanocytic,Melanoma,dermoscopic,IL_2,IP_1,male,
        ISIC_0053453,BCN,50,,,,dermoscopic,IL_3,,male,""",
    )
    table(root, "attribution.txt", "ViDIR Group")
    table(root / "licenses", "CC-BY-NC.txt", "...")


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


def bcn20000_newer(root: Path) -> None:
    """As the ISIC archive gives it: ids and diagnoses of the archive."""
    images(root / "images", "ISIC_0053453.jpg", "ISIC_0053457.jpg")
    table(
        root,
        "bcn_20k_train.csv",
        """isic_id,age_approx,anatom_site_general,diagnosis_3,image_type,lesion_id,sex,split
        ISIC_0053453,55.0,anterior torso,"Melanoma, NOS",dermoscopic,BCN_0003884,male,train
        ISIC_0053457,50.0,anterior torso,Nevus,dermoscopic,BCN_0000019,female,train""",
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


def scin(root: Path) -> None:
    names = (
        "-5156441036700827606",
        "1264000000000000001",
        "7260000000000000002",
        "-30000000000000000003",
        "9999999999999999",
    )
    images(root / "dataset" / "images", *(f"{name}.png" for name in names))
    paths = [f"dataset/images/{name}.png" for name in names]
    table(
        root,
        "dataset/scin_cases.csv",
        f"""case_id,source,age_group,sex_at_birth,fitzpatrick_skin_type,image_1_path,image_2_path,image_3_path
        11,SCIN,AGE_30_TO_39,FEMALE,FST3,{paths[0]},{paths[1]},
        12,SCIN,AGE_UNKNOWN,OTHER_OR_UNSPECIFIED,NONE_IDENTIFIED,{paths[2]},,
        13,SCIN,AGE_18_TO_29,MALE,FST6,{paths[3]},,
        14,SCIN,AGE_18_TO_29,MALE,FST1,{paths[4]},,""",
    )
    label = "dermatologist_fitzpatrick_skin_type_label"
    table(
        root,
        "dataset/scin_labels.csv",
        f"""case_id,weighted_skin_condition_label,{label}_1,{label}_2,{label}_3,monk_skin_tone_label_india,monk_skin_tone_label_us
        11,"{{'Eczema': 0.69, 'Psoriasis': 0.2, 'Acute dermatitis, NOS': 0.11}}",FST3,FST3,,3.0,4.0
        12,{{'SCC/SCCIS': 1.0}},FST2,FST3,,10.0,
        13,"{{'Tinea': 0.5, 'Impetigo': 0.5}}",,,,,
        14,{{}},,,,,""",
    )


def derm7pt(root: Path) -> None:
    images(root / "images", "NEL/NEL025.JPG", "NEL/NEL027.JPG", "NGL/NGL001.jpg", "NGL/NGL002.jpg")
    images(root / "images", "NEL/NEL029.JPG", "NEL/NEL030.JPG")
    table(
        root,
        "meta/meta.csv",
        """case_num,diagnosis,seven_point_score,clinic,derm
        1,clark nevus,1,NEL/NEL025.JPG,NEL/NEL027.JPG
        2,melanoma (less than 0.76 mm),5,NGL/NGL001.jpg,NGL/NGL002.jpg
        3,clark nevus,2,NEL/NEL029.JPG,NEL/NEL030.JPG""",
    )
    for name, row in (("train", 0), ("valid", 2), ("test", 1)):
        table(root, f"meta/{name}_indexes.csv", f"indexes\n{row}")


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


def imagefolder_splits(root: Path) -> None:
    """A table in each split's folder; the file names repeat."""
    for part, label in (("train", "mel"), ("validation", "nv"), ("test", "nv")):
        images(root / part, "0001.png", f"{part}.png")
        table(root / part, "metadata.csv", f"file_name,label\n0001.png,mel\n{part}.png,{label}")


def kaggle_isic(root: Path) -> None:
    top = "Skin cancer ISIC The International Skin Imaging Collaboration"
    for part in ("Train", "Test"):
        for label in ("actinic keratosis", "nevus", "pigmented benign keratosis"):
            images(root / top / part / label, f"ISIC_00{25 + len(label)}{len(part)}00.jpg")


def kaggle_numbered(root: Path) -> None:
    for label in ("1. Eczema 1677", "2. Melanoma 15.75k", "5. Melanocytic Nevi (NV) - 7970"):
        images(root / "IMG_CLASSES" / label, f"{len(label)}_0.jpg")


def mednode(root: Path) -> None:
    for label in ("melanoma", "naevus"):
        images(root / "complete_mednode_dataset" / label, *(f"{1000 * len(label) + k}.jpg" for k in range(2)))


def medmnist(root: Path) -> None:
    arrays = {}
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = np.arange(count * 192, dtype=np.uint8).reshape(count, 8, 8, 3)
        arrays[f"{split}_labels"] = (np.arange(count) % 2 + 4)[:, None].astype(np.uint8)
    np.savez(root / "dermamnist_64.npz", **arrays)


def dermnet(root: Path) -> None:
    for part in ("train", "test"):
        for label in ("Melanoma Skin Cancer Nevi and Moles", "Eczema Photos"):
            images(root / part / label, f"{part}-{label}-1.jpg")


# layout -> (kind, domain, {label: images}, patients)
LAYOUTS: dict[Callable[[Path], None], tuple[str, str, dict[str, int], int]] = {
    ham10000: ("HAM10000", "dermoscopic", {"bkl": 2, "nv": 1}, 0),
    isic_2016: ("ISIC 2016", "dermoscopic", {"benign": 2, "malignant": 1}, 0),
    isic_2017: ("ISIC challenge", "dermoscopic", {"nevus": 1, "melanoma": 1, "seborrheic_keratosis": 1}, 0),
    isic_2018: ("ISIC challenge", "dermoscopic", {"NV": 2, "MEL": 1}, 0),
    isic_2019: ("ISIC challenge", "dermoscopic", {"NV": 1, "MEL": 1}, 0),
    isic_2020: ("ISIC 2020", "dermoscopic", {"nevus": 1, "melanoma": 1}, 2),
    isic_2024: ("ISIC 2024 (SLICE-3D)", "clinical", {"Benign": 1, "Melanoma": 1}, 2),
    isic_cli: ("ISIC archive", "dermoscopic", {"Nevus": 1, "Melanoma": 1}, 1),
    milk10k: ("MILK10k", "mixed", {"MEL": 2, "NV": 2}, 0),
    bcn20000: ("BCN20000", "dermoscopic", {"MEL": 1, "NV": 1}, 0),
    bcn20000_newer: ("ISIC archive", "dermoscopic", {"Melanoma, NOS": 1, "Nevus": 1}, 0),
    pad_ufes: ("PAD-UFES-20", "clinical", {"NEV": 1, "BCC": 1}, 2),
    fitzpatrick17k: ("Fitzpatrick17k", "clinical", {"melanoma": 1, "psoriasis": 1}, 0),
    ddi: ("DDI", "clinical", {"melanoma-in-situ": 1, "seborrheic-keratosis": 1}, 0),
    scin: ("SCIN", "clinical", {"Eczema": 2, "SCC/SCCIS": 1}, 0),
    derm7pt: ("Derm7pt", "dermoscopic", {"clark nevus": 2, "melanoma (less than 0.76 mm)": 1}, 0),
    ph2: ("PH2", "dermoscopic", {"common nevus": 1, "melanoma": 1}, 0),
    hugging_face: ("imagefolder", "unknown", {"mel": 1, "nv": 1}, 0),
    imagefolder_splits: ("imagefolder", "unknown", {"mel": 4, "nv": 2}, 0),
    dermnet: ("DermNet", "clinical", {"Melanoma Skin Cancer Nevi and Moles": 2, "Eczema Photos": 2}, 0),
    kaggle_isic: (
        "class folders",
        "unknown",
        {"actinic keratosis": 2, "nevus": 2, "pigmented benign keratosis": 2},
        0,
    ),
    kaggle_numbered: (
        "class folders",
        "unknown",
        {"1. Eczema 1677": 1, "2. Melanoma 15.75k": 1, "5. Melanocytic Nevi (NV) - 7970": 1},
        0,
    ),
    mednode: ("MED-NODE", "clinical", {"melanoma": 2, "naevus": 2}, 0),
    medmnist: ("MedMNIST", "dermoscopic", {"mel": 4, "nv": 4}, 0),
}
