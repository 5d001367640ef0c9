"""Images in folders named after their classes, with or without folders train, val and test above them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.core.image_file import IMAGE_SUFFIXES
from skinedge.data.columns import roles_of
from skinedge.data.dataset import OFFICIAL, Dataset
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.domains import domain_of
from skinedge.data.readers.facts import facts_of
from skinedge.data.readers.incomplete import choice, not_understood, refuse_incomplete
from skinedge.data.readers.labelled import as_sample, dataset_of
from skinedge.data.table_file import is_table, read_header, read_table

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

    An image in no class folder, and a table in the parent folder that knows lesions, are problems.
    Raises: DataError for no image, or images of a known dataset without its tables.
    """
    images = contents.images
    if not images:
        raise DataError(
            "no images found (looked for " + ", ".join(sorted(IMAGE_SUFFIXES)) + ")", where=str(contents.root)
        )
    _refuse_lost_lesions(contents)
    prefix = _common_prefix(images)
    parts = {path: path.removeprefix(prefix).split("/") for path in images}
    tops = {part[0].lower() for part in parts.values() if len(part) > 1}
    official = tops <= set(OFFICIAL) and len({OFFICIAL[top] for top in tops}) > 1
    depth = 1 if official else 0
    loose = [path for path, part in parts.items() if len(part) <= depth + 1]
    names = {part[depth] for part in parts.values() if len(part) > depth + 1}
    mostly_loose = 2 * len(loose) >= len(images)
    refuse_incomplete(contents, set() if mostly_loose else names, ["/".join(part[depth:]) for part in parts.values()])
    _refuse_loose(contents, loose)
    facts = facts_of(contents)
    samples = [
        replace(
            as_sample(path, path, part[depth], facts),
            image_id=Path(path).stem,
            split=OFFICIAL[part[0].lower()] if official else "",
        )
        for path, part in parts.items()
        if len(part) > depth + 1
    ]
    kind, domain = _collection(contents, {sample.label for sample in samples})
    return dataset_of(contents, kind, domain_of(samples, domain), samples)


def _refuse_loose(contents: Contents, images: list[str]) -> None:
    """Add a problem for images in no class folder; tables that were not understood or not read may label them."""
    todo = "Put each image into a folder named after its class, or add a metadata table."
    what = "images are in no class folder"
    table = next(iter(not_understood(contents)), None)
    if table is not None:
        what += f", and no table labels them: {table.describe()} is not understood"
        todo = choice(table)
    if contents.unread:
        what, todo = f"{what}, and a table that cannot be read may label them", ""
    contents.refuse(what, [(path, path) for path in images], todo=todo)


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
    """Add a problem for tables one level up that tell these images' lesions or patients: they would leak."""
    parent = contents.root.resolve().parent
    cases = []
    for path in sorted(parent.iterdir()):
        if not is_table(path.name) or not path.is_file() or str(path) == contents.options.table:
            continue
        try:
            roles = roles_of(read_header(parent, path.name))
            groups = roles.lesion or roles.patient
            rows = read_table(parent, path.name).rows if roles.image and groups else ()
        except DataError:
            continue  # a file of something else
        if any(contents.index.places(row[roles.image]) for row in rows if row[groups] and row[roles.image]):
            cases.append((f"{path.name} ({groups})", ""))
    contents.refuse(
        "tables in the parent folder contain these images' lesion or patient ids",
        cases,
        todo="Give the parent folder instead, so that no lesion and no patient is in two splits.",
    )
