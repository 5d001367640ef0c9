"""Images in folders named after their classes, with or without folders train, val and test above them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.core.image_file import IMAGE_SUFFIXES
from skinedge.data.columns import roles_of
from skinedge.data.dataset import Dataset
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.domains import domain_of
from skinedge.data.readers.incomplete import refuse_incomplete
from skinedge.data.readers.labelled import as_sample, dataset_of
from skinedge.data.table_file import is_table, read_table

OFFICIAL = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"} | {
    "test": "test",
    "testing": "test",
}


# The 23 folders of DermNet as found on Kaggle.
DERMNET = frozenset(
    {
        "acne and rosacea photos",
        "actinic keratosis basal cell carcinoma and other malignant lesions",
        "atopic dermatitis photos",
        "bullous disease photos",
        "cellulitis impetigo and other bacterial infections",
        "eczema photos",
        "exanthems and drug eruptions",
        "hair loss photos alopecia and other hair diseases",
        "herpes hpv and other stds photos",
        "light diseases and disorders of pigmentation",
        "lupus and other connective tissue diseases",
        "melanoma skin cancer nevi and moles",
        "nail fungus and other nail disease",
        "poison ivy photos and other contact dermatitis",
        "psoriasis pictures lichen planus and related diseases",
        "scabies lyme disease and other infestations and bites",
        "seborrheic keratoses and other benign tumors",
        "systemic disease",
        "tinea ringworm candidiasis and other fungal infections",
        "urticaria hives",
        "vascular tumors",
        "vasculitis photos",
        "warts molluscum and other viral infections",
    }
)


def read_class_folders(contents: Contents) -> Dataset:
    """Read images in class folders, with what tables beside them tell.

    Raises: DataError for no image, an image in no class folder, or a table in the parent folder that knows lesions.
    """
    folder = contents.folder
    if not folder.images:
        raise DataError(
            "no images found (looked for " + ", ".join(sorted(IMAGE_SUFFIXES)) + ")", where=str(folder.root)
        )
    _refuse_lost_lesions(contents)
    prefix = _common_prefix(folder.images)
    parts = [path.removeprefix(prefix).split("/") for path in folder.images]
    tops = {part[0].lower() for part in parts if len(part) > 1}
    official = tops <= set(OFFICIAL) and len({OFFICIAL[top] for top in tops}) > 1
    depth = 1 if official else 0
    loose = [path for path, part in zip(folder.images, parts, strict=True) if len(part) <= depth + 1]
    names = {part[depth] for part in parts if len(part) > depth + 1}
    refuse_incomplete(contents, set() if loose else names, ["/".join(part[depth:]) for part in parts])
    if loose:
        raise DataError(
            f"{len(loose)} images are in no class folder: {', '.join(loose[:3])}",
            where=str(folder.root),
            todo="Put each image into a folder named after its class, or add a metadata table.",
        )
    stems = [Path(path).stem for path in folder.images]
    unique = len(set(stems)) == len(stems)
    facts = contents.facts()
    samples = [
        replace(
            as_sample(stem, path, part[depth], facts),
            image_id=stem if unique else path,
            split=OFFICIAL[part[0].lower()] if official else "",
        )
        for path, part, stem in zip(folder.images, parts, stems, strict=True)
    ]
    kind, domain = _collection(contents, {sample.label for sample in samples})
    return dataset_of(contents, kind, domain_of(samples, domain), samples)


def _collection(contents: Contents, labels: set[str]) -> tuple[str, str]:
    """Return name and domain of a collection that is published as class folders, by its folders' names."""
    if len(labels) > 1 and {label.casefold() for label in labels} <= DERMNET:
        return "DermNet", "clinical"
    place = f"{contents.root.resolve().name}/{contents.folder.images[0]}".casefold()
    if labels == {"melanoma", "naevus"} and any(name in place for name in ("mednode", "med-node")):
        return "MED-NODE", "clinical"
    return "class folders", ""


def _common_prefix(paths: tuple[str, ...]) -> str:
    """Return the common parent folders above the class folders, '' or with a trailing '/'."""
    prefix = ""
    while True:
        rest = [path.removeprefix(prefix).split("/") for path in paths]
        tops = {part[0] for part in rest}
        if len(tops) > 1 or any(len(part) < 3 for part in rest):
            return prefix
        prefix += f"{tops.pop()}/"


def _refuse_lost_lesions(contents: Contents) -> None:
    """Refuse to read past a table one level up that has these images' lesions or patients: they would leak."""
    parent = contents.root.resolve().parent
    for path in sorted(parent.iterdir()):
        if not is_table(path.name) or not path.is_file():
            continue
        try:
            table = read_table(parent, path.name)
        except DataError:
            continue  # a file of something else
        roles = roles_of(table)
        groups = roles.lesion or roles.patient
        ids = [row[roles.image] for row in table.rows if row[groups]] if groups and roles.image else []
        if any(contents.index.find(image) for image in ids if image):
            raise DataError(
                f"{table.name} in the parent folder contains these images' {groups.removesuffix('_id')} ids",
                where=str(contents.root),
                todo="Give the parent folder instead, so that none of them is in two splits.",
            )
