"""The table of conditions against lists copied by hand from the datasets' documentation."""

from __future__ import annotations

import pytest

from skinedge.core.errors import ConfigError, DataError
from skinedge.core.taxonomy import GROUPS, conditions, find, fold, groups, melanoma, mixed_classes, resolve

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


@pytest.mark.parametrize("name", ["UNK", "unknown", "Other", "something", "", "benign?malignant", "carcinoma"])
def test_meaningless_class_name_error_shows_how_to_map_it(name: str) -> None:
    with pytest.raises(DataError) as caught:
        groups(["mel", name])
    assert f'[taxonomy]\n"{name}" = ' in str(caught.value)


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


@pytest.mark.parametrize(
    ("group", "label"), [(group, label) for group, labels in SPELLINGS.items() for label in labels]
)
def test_labels_of_public_datasets(group: str, label: str) -> None:
    assert groups([label, "healthy skin"])[label] == group


def test_additions_do_not_make_a_name_of_nothing() -> None:
    for label in ("1", "12. ", "Photos", "3k"):
        assert find(label) is None


def test_all_unknown_classes_are_listed_at_once_without_a_guess() -> None:
    with pytest.raises(DataError, match=r"2 classes are not in the table.*: blip, blob") as caught:
        groups(["mel", "blip", "blob"])
    assert '"blip" = ""\n"blob" = ""' in str(caught.value)
    with pytest.raises(ConfigError, match="'' is not a known condition"):
        groups(["mel", "blip", "blob"], {"blip": "", "blob": ""})


def test_mixed_classes() -> None:
    assert mixed_classes(["mel", "Systemic Disease", "unheard of"]) == ["Systemic Disease"]
