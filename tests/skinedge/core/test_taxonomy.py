"""The table of conditions against lists copied by hand from the datasets' documentation."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from skinedge.core.errors import ConfigError, DataError
from skinedge.core.taxonomy import (
    GROUPS,
    block,
    conditions,
    find,
    fold,
    groups,
    includes,
    melanoma,
    mixed_classes,
    parts_of_melanoma,
    resolve,
)

HAM10000 = {
    "akiec": "malignant",
    "bcc": "malignant",
    "bkl": "benign",
    "df": "benign",
    "mel": "malignant",
    "nv": "benign",
    "vasc": "benign",
}
ISIC2019 = {
    "MEL": "malignant",
    "NV": "benign",
    "BCC": "malignant",
    "AK": "premalignant",
    "BKL": "benign",
    "DF": "benign",
    "VASC": "benign",
    "SCC": "malignant",
}
ISIC_FOLDERS = {
    "actinic keratosis": "premalignant",
    "basal cell carcinoma": "malignant",
    "dermatofibroma": "benign",
    "melanoma": "malignant",
    "nevus": "benign",
    "pigmented benign keratosis": "benign",
    "seborrheic keratosis": "benign",
    "squamous cell carcinoma": "malignant",
    "vascular lesion": "benign",
}
CLINICAL = ["acne", "eczema", "psoriasis", "vitiligo", "warts", "fungal infections"]
DERMAMNIST = {
    "actinic keratoses and intraepithelial carcinoma": "malignant",
    "basal cell carcinoma": "malignant",
    "benign keratosis-like lesions": "benign",
    "dermatofibroma": "benign",
    "melanoma": "malignant",
    "melanocytic nevi": "benign",
    "vascular lesions": "benign",
}


@pytest.mark.parametrize("expected", [HAM10000, ISIC2019, ISIC_FOLDERS, DERMAMNIST])
def test_datasets_have_the_right_groups(expected: dict[str, str]) -> None:
    assert groups(list(expected)) == expected


def test_clinical_conditions_are_benign() -> None:
    assert groups(CLINICAL) == dict.fromkeys(CLINICAL, "benign")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Melanocytic_Nevi", "melanocytic nevus"),
        ("NAEVUS", "melanocytic nevus"),
        ("naevi", "melanocytic nevus"),
        ("Actinic Keratoses", "actinic keratosis"),
        ("actinic-keratosis", "actinic keratosis"),
        ("Bowen's disease", "intraepithelial carcinoma"),
        ("Bowen\u2019s Disease", "intraepithelial carcinoma"),
        ("Basal  cell carcinomas", "basal cell carcinoma"),
        ("Seborrhoeic keratoses", "seborrheic keratosis"),
        ("Haemangiomas", "hemangioma"),
        ("Caf\u00e9-au-lait macule", "cafe-au-lait macule"),
        ("Melanomas", "melanoma"),
        ("Vascular_Lesions", "vascular lesion"),
    ],
)
def test_spelling_variants_resolve_to_one_condition(spelling: str, name: str) -> None:
    assert resolve(spelling).name == name


def test_table_rows_are_complete_and_names_unique() -> None:
    seen: dict[str, str] = {}
    for row in conditions():
        assert row.group in GROUPS
        assert row.source and "://" not in row.source
        for name in (row.name, *row.aliases):
            assert seen.setdefault(fold(name), row.name) == row.name
            assert resolve(name) is row
        if row.part_of:
            assert includes(resolve(row.part_of), row) and not includes(row, resolve(row.part_of))


@pytest.mark.parametrize("name", ["UNK", "unknown", "Other", "something", "", "benign?malignant", "carcinoma"])
def test_meaningless_class_name_error_shows_how_to_map_it(name: str) -> None:
    with pytest.raises(DataError) as caught:
        groups(["mel", name])
    assert f'[taxonomy]\n"{name}" = ""' in str(caught.value)


def test_overrides_map_to_a_group_or_a_condition() -> None:
    labels = ["mel", "UNK", "Typ B", "akiec"]
    mapped = groups(labels, {"unk": "premalignant", "Typ B": "Bowen's disease", "akiec": "premalignant"})
    assert mapped == {"mel": "malignant", "UNK": "premalignant", "Typ B": "malignant", "akiec": "premalignant"}


@pytest.mark.parametrize("overrides", [{"mel": "harmless"}, {"no such class": "benign"}])
def test_invalid_overrides_are_refused(overrides: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"\[taxonomy\]"):
        groups(["mel", "nv"], overrides)


@pytest.mark.parametrize(
    ("melanoma_name", "nevus_name"),
    [
        ("меланома", "невус"),
        ("黑色素瘤", "色素痣"),
        ("μελάνωμα", "σπίλος"),
        ("मेलेनोमा", "तिल"),
        ("HER2+", "HER2-"),
        ("+", "-"),
    ],
)
def test_labels_of_any_script_are_distinguished(melanoma_name: str, nevus_name: str) -> None:
    overrides = {melanoma_name: "melanoma", nevus_name: "benign"}
    assert groups((melanoma_name, nevus_name), overrides) == {melanoma_name: "malignant", nevus_name: "benign"}
    assert groups((nevus_name, melanoma_name), overrides) == {melanoma_name: "malignant", nevus_name: "benign"}
    assert melanoma((nevus_name, melanoma_name), overrides) == melanoma_name


def test_overrides_of_another_script_are_folded_too() -> None:
    assert groups(("МЕЛАНОМА", "nv"), {"меланома": "melanoma"}) == {"МЕЛАНОМА": "malignant", "nv": "benign"}


@pytest.mark.parametrize(
    ("labels", "overrides"),
    [
        (("mel", "Naevus", "nevi"), {}),
        (("HER2+", "HER2-"), {"HER2+": "malignant"}),
        (("mel", "nv"), {"MEL": "benign", "mel": "malignant"}),
        (("mel", "nv"), {"MEL": "benign", "Mel": "malignant"}),
        (("mel", "-"), {"+": "benign"}),
    ],
)
def test_names_with_the_same_folded_spelling_are_refused(labels: tuple[str, ...], overrides: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"differ only|lacks"):
        groups(labels, overrides)


def test_melanoma_class_is_found_by_any_of_its_names() -> None:
    assert melanoma(["bcc", "MEL", "nv"]) == "MEL"
    assert melanoma(["acne", "eczema"]) is None
    assert melanoma(["acne", "black"], {"black": "melanoma"}) == "black"
    assert melanoma(["acne", "black"], {"black": "malignant"}) is None
    with pytest.raises(DataError, match="two classes mean melanoma"):
        melanoma(["mel", "malignant melanoma"])
    assert melanoma(["mel", "malignant melanoma"], {"malignant melanoma": "malignant"}) == "mel"


# Labels of the public datasets, as their tables and folders spell them.
SPELLINGS = {
    "malignant": (
        "SCCKA", "MAL_OTH", "melanoma (less than 0.76 mm)", "melanoma (in situ)", "2. Melanoma 15.75k", "Melanoma, NOS",
        "Melanoma Skin Cancer Nevi and Moles", "4. Basal Cell Carcinoma (BCC) 3323", "Vascular Tumors",
        "Basal cell carcinoma, Nodular", "squamous-cell-carcinoma-in-situ", "nodular-melanoma-(nm)",
        "Malignant melanocytic proliferations (Melanoma)",
        "Actinic Keratosis Basal Cell Carcinoma and other Malignant Lesions",
    ),
    "premalignant": ("ACK", "clark nevus", "Indeterminate", "Solar or actinic keratosis", "reed or spitz nevus"),
    "benign": (
        "BEN_OTH", "INF", "SEK", "NEV", "5. Melanocytic Nevi (NV) - 7970", "Eczema Photos", "Nevus, NOS", "blue nevus",
        "Warts Molluscum and other Viral Infections", "10. Warts Molluscum and other Viral Infections - 2103",
    ),
}  # fmt: skip


FOLDERS = {
    "DermNet": (
        "Acne and Rosacea Photos", "Actinic Keratosis Basal Cell Carcinoma and other Malignant Lesions",
        "Atopic Dermatitis Photos", "Bullous Disease Photos", "Cellulitis Impetigo and other Bacterial Infections",
        "Eczema Photos", "Exanthems and Drug Eruptions", "Hair Loss Photos Alopecia and other Hair Diseases",
        "Herpes HPV and other STDs Photos", "Light Diseases and Disorders of Pigmentation",
        "Lupus and other Connective Tissue diseases", "Melanoma Skin Cancer Nevi and Moles",
        "Nail Fungus and other Nail Disease", "Poison Ivy Photos and other Contact Dermatitis",
        "Psoriasis pictures Lichen Planus and related diseases",
        "Scabies Lyme Disease and other Infestations and Bites", "Seborrheic Keratoses and other Benign Tumors",
        "Systemic Disease", "Tinea Ringworm Candidiasis and other Fungal Infections", "Urticaria Hives",
        "Vascular Tumors", "Vasculitis Photos", "Warts Molluscum and other Viral Infections",
    ),
    "Kaggle": (
        "1. Eczema 1677", "2. Melanoma 15.75k", "3. Atopic Dermatitis - 1.25k", "4. Basal Cell Carcinoma (BCC) 3323",
        "5. Melanocytic Nevi (NV) - 7970", "6. Benign Keratosis-like Lesions (BKL) 2624",
        "7. Psoriasis pictures Lichen Planus and related diseases - 2k",
        "8. Seborrheic Keratoses and other Benign Tumors - 1.8k",
        "9. Tinea Ringworm Candidiasis and other Fungal Infections - 1.7k",
        "10. Warts Molluscum and other Viral Infections - 2103",
    ),
    "MILK10k": ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC"),
    "ISIC 2017": ("mel", "nv", "sk", "melanoma", "nevus", "seborrheic_keratosis"),
    "PAD-UFES-20": ("BCC", "ACK", "NEV", "SEK", "SCC", "MEL"),
    "Derm7pt": (
        "basal cell carcinoma", "blue nevus", "clark nevus", "combined nevus", "congenital nevus", "dermal nevus",
        "recurrent nevus", "reed or spitz nevus", "melanoma", "melanoma (in situ)", "melanoma (less than 0.76 mm)",
        "melanoma (0.76 to 1.5 mm)", "melanoma (more than 1.5 mm)", "melanoma metastasis", "dermatofibroma", "lentigo",
        "melanosis", "seborrheic keratosis", "vascular lesion",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("group", "label"), [(group, label) for group, labels in SPELLINGS.items() for label in labels]
)
def test_labels_of_public_datasets(group: str, label: str) -> None:
    assert groups([label, "healthy skin"])[label] == group


def test_additions_do_not_make_a_name_of_nothing() -> None:
    for label in ("1", "12. ", "Photos", "3k"):
        assert find(label) is None


def test_brackets_that_may_change_the_group_are_not_ignored() -> None:
    for label in ("nevus (growing)", "keratosis (seborrheic or actinic)", "Nevi (BCC)"):
        assert find(label) is None
    assert resolve("Benign keratosis-like lesions (BKL)").name == "benign keratosis"


def test_all_unknown_classes_are_listed_at_once_without_a_guess() -> None:
    with pytest.raises(DataError, match=r"2 classes are not in the table.*: blip, blob") as caught:
        groups(["mel", "blip", "blob"])
    assert '"blip" = ""\n"blob" = ""' in str(caught.value)
    with pytest.raises(ConfigError, match="'' is not a known condition"):
        groups(["mel", "blip", "blob"], {"blip": "", "blob": ""})
    with pytest.raises(DataError, match=r'\[taxonomy\]\n"blip" = ""$'):
        groups(["mel", "blip"])


def test_the_block_to_paste_is_toml_and_says_what_is_doubtful() -> None:
    labels = ['a "quoted" \\ name', "7. Nail Fungus and other Nail Disease - 1.2k", "xeroderma pigmentosum"]
    text = block(labels)
    assert tomllib.loads(text) == {"taxonomy": dict.fromkeys(labels, "")}
    assert text.count("#") == 2 and "# DermNet's collection has melanoma of the nail" in text


def test_mixed_classes() -> None:
    labels = ["mel", "akiec", "Melanoma Skin Cancer Nevi and Moles", "Vascular Tumors", "unheard of"]
    assert mixed_classes(labels) == labels[1:4]


def test_parts_of_melanoma() -> None:
    kinds = ["melanoma (in situ)", "melanoma (0.76 to 1.5 mm)", "Melanoma Invasive, Nodular", "melanoma metastasis"]
    assert parts_of_melanoma(["bcc", "melanoma", "mel", *kinds]) == kinds
    assert melanoma(["bcc", *kinds]) is None and melanoma(["melanoma", *kinds]) == "melanoma"


PUBLIC = tomllib.loads((Path(__file__).parent / "public_labels.toml").read_text(encoding="utf-8"))
AS = {"Benign": "benign", "non-neoplastic": "benign", "Indeterminate": "premalignant", "Malignant": "malignant"}
# Where we are stricter than the publisher (taxonomy.toml gives the reason), and where we ask.
STRICTER = {
    "Nevus, Atypical, Dysplastic, or Clark", "Nevus, Atypical", "Nevus, Dysplastic", "Nevus, Clark", "Nevus, Spitz",
    "Nevus, Reed", "Nevus, BAP-1 deficient", "Nevus, Deep penetrating", "Pigmented epithelioid melanocytoma",
    "Porokeratosis", "porokeratosis actinic", "porokeratosis of mibelli", "disseminated actinic porokeratosis",
    "dysplastic-nevus", "atypical-spindle-cell-nevus-of-reed", "pigmented-spindle-cell-nevus-of-reed",
    "actinic-keratosis",
}  # fmt: skip
# Fitzpatrick17k counts it as malignant, everybody else as a precursor.
MILDER = {"actinic keratosis"}
OPEN = {
    "Langerhans cell proliferations", "Langerhans cell histiocytosis", "langerhans cell histiocytosis",
    "Langerhans cell histiocytosis, Diffuse or multifocal", "Langerhans cell histiocytosis, Solitary or unifocal",
    "Erdheim Chester disease", "Indeterminate cell histiocytosis", "lymphocytic-infiltrations", "xeroderma pigmentosum",
    "Mixed Langerhans cell histiocytosis and Erdheim Chester disease", "sun damaged skin", "cheilitis",
}  # fmt: skip


@pytest.mark.parametrize("dataset", PUBLIC)
def test_every_label_of_a_public_dataset_has_its_publishers_group(dataset: str) -> None:
    for theirs, labels in PUBLIC[dataset].items():
        for label in labels:
            condition = find(label)
            if label in OPEN:
                assert condition is None and "#" in block([label]), label
                continue
            assert condition is not None, label
            rank = GROUPS.index(condition.group) - GROUPS.index(AS.get(theirs, theirs))
            assert rank == (1 if label in STRICTER else -1 if label in MILDER else 0), (label, condition.group)


DERMNET_OPEN = {
    "Nail Fungus and other Nail Disease", "Herpes HPV and other STDs Photos", "Systemic Disease",
    "Light Diseases and Disorders of Pigmentation",
}  # fmt: skip


@pytest.mark.parametrize("dataset", FOLDERS)
def test_every_folder_of_a_collection_has_a_group_or_a_reason_to_ask(dataset: str) -> None:
    for label in FOLDERS[dataset]:
        assert (find(label) is None) == (label in DERMNET_OPEN), label
        assert label not in DERMNET_OPEN or "#" in block([label])
