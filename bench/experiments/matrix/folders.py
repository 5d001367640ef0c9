"""Folders of images as people have them: names, nesting, links, copies, and what other programs leave in them."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random

from experiments.fuzz.case import Outcome
from experiments.fuzz.fixture import RUN
from experiments.matrix.cell import Cell, Plan, one_line, works, works_or_one_line
from experiments.matrix.photos import photo, write_photos

DATA, QUICK, DRAWN = "data", 30, 6  # folder; cells of the quick part; drawn names
CHECK = ("data", "check", DATA, "--json")
# Legal names of files and folders that break a careless program.
NAMES = {
    "spaces": " a  b ", "umlauts": "\u00e4\u00f6\u00fc \u00df", "combining characters": "a\u0308 o\u0308",
    "single quote": "a'b", "double quotes": 'a"b"', "hash": "a#1", "archive marker": "x.npz#train", "percent": "100%20",
    "separators": "a;b,c|d", "shell": "$(touch x) `y` & *", "dash": "-rf", "backslash": "a\\b", "emoji": "\U0001f9b4",
    "formula": "=1+1", "option": "--help", "dots": "a..b", "right to left": "\u05d0\u202eb",
}  # fmt: skip
NOT_UTF8 = "a\udcffb"
BREAKING = {"newline": "a\nb", "tab": "a\tb", "escape": "a\x1b[31mb", "line separator": "a\u2028b", "C1": "a\x85b"}


@dataclass(frozen=True)
class Folder:
    """A folder of images.

    images: path -> (class, official split) of those that must be read; others: path -> content, or target of a link, of
    everything else, and of images that are no new photos.
    """

    images: Mapping[str, tuple[str, str]]
    others: Mapping[str, bytes | str] = field(default_factory=dict)

    def write(self, root: Path) -> None:
        """Write the folder."""
        links = tuple(f"{name}/" for name, content in self.others.items() if isinstance(content, str))
        write_photos(root, [name for name in self.images if name not in self.others and not name.startswith(links)])
        for name, content in self.others.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                (root / name).symlink_to(content)
            else:
                (root / name).write_bytes(content)


def classes(count: int = 4, labels: tuple[str, ...] = ("mel", "nv"), pattern: str = "{label}/{label}{n}.jpg") -> Folder:
    """Return class folders with `count` images each."""
    return Folder({pattern.format(label=label, n=n): (label, "") for label in labels for n in range(count)})


def cells(plan: Plan) -> list[Cell]:
    """Return a cell for each folder: `data check` and `predict` must read exactly its images."""
    every = [*names(plan), *nested(plan), *left_out(plan), *links(plan), *sizes(plan), *copies(plan), *refused(plan)]
    return plan.rng.sample(every, QUICK) if plan.quick else every


def read_cell(
    plan: Plan, name: str, folder: Folder, *says: str, data: str = DATA, write: Callable[[Path], None] | None = None
) -> Cell:
    """Return the cell of a folder that is read. write: instead of `folder.write`, into the working folder."""
    predict = ("predict", data, "--run", str(plan.fixture / RUN), "--jobs", "1", "--out", "out.jsonl")
    commands = (predict, ("data", "check", data, "--json"))
    expected = works(partial(is_read, folder, data), *says)
    return Cell(name, commands, expected, write or (lambda work: folder.write(work / data)))


def is_read(folder: Folder, data: str, outcome: Outcome, work: Path) -> str | None:
    """Compare the dataset, what a split file keeps of it, and the predictions with the images that are there."""
    from skinedge.core.files import write_atomic
    from skinedge.data.dataset import read_split, write_split
    from skinedge.data.readers import read

    dataset = read(work / data)
    actual = {sample.path: (sample.label, sample.split) for sample in dataset.samples}
    if actual != dict(folder.images):
        differing = set(actual.items()) ^ set(folder.images.items())
        return f"reads another dataset: {sorted(map(repr, differing))[:3]}"
    samples = tuple(replace(sample, split=sample.split or "train") for sample in dataset.samples)
    write_atomic(work / "split.csv", write_split(samples))
    if [(s.path, s.label) for s in read_split(work / "split.csv")] != [(s.path, s.label) for s in samples]:
        return "the split file leads to other images"
    predictions = [json.loads(line) for line in (work / "out.jsonl").read_bytes().splitlines()]
    if len(predictions) != len(folder.images) or any("error" in row for row in predictions):
        return f"{len(predictions)} predictions for {len(folder.images)} images"
    return None


def names(plan: Plan) -> Iterator[Cell]:
    """Yield names of files, classes and the folder itself."""
    drawn = {f"drawn: {name!a}": name for name in (drawn_name(plan.rng) for _ in range(DRAWN))}
    for what, name in {**NAMES, "250 characters": "x" * 240, **drawn}.items():
        yield read_cell(plan, f"file name, {what}", named_files(name))
        yield read_cell(plan, f"class name, {what}", classes(labels=(name, "nv"), pattern="{label}/{n}.jpg"))
    for what, name in {**BREAKING, "non-UTF-8": NOT_UTF8}.items():
        cell = read_cell(plan, f"file name, {what}", named_files(name))
        # A name that is no text may be refused, but then it is named.
        yield replace(cell, expected=works_or_one_line(cell.expected.invariant, "names")) if name == NOT_UTF8 else cell
        folder = classes(labels=(name, "nv"), pattern="{label}/{n}.jpg")
        yield refused_cell(f"class name, {what}", folder, "class names")
    for name in (*(NAMES[what] for what in ("spaces", "hash", "double quotes")), NOT_UTF8):
        yield read_cell(plan, f"folder name, {name!a}", classes(), data=f"data {name}")
    yield read_cell(plan, "upper-case suffixes", classes(pattern="{label}/{label}{n}.JPG"))
    yield read_cell(plan, ".jfif", classes(pattern="{label}/{label}{n}.jfif"))
    yield read_cell(plan, "the same file names in both classes", classes(pattern="{label}/{n}.png"))


def named_files(name: str) -> Folder:
    """Return class folders with this in every file's name."""
    images = {f"{label}/{name}{label}{n}.jpg": (label, "") for label in ("mel", "nv") for n in range(4)}
    return Folder(images)


def drawn_name(rng: Random) -> str:
    """Return a legal name of up to 20 characters of any script: no control characters, not hidden, no format field."""
    blocks = [(0x20, 0x7E), (0xA1, 0x17F), (0x370, 0x5FF), (0x4E00, 0x4FFF), (0x1F300, 0x1F5FF)]
    characters = [chr(rng.randint(*rng.choice(blocks))) for _ in range(rng.randint(1, 20))]
    return "x" + "".join(c for c in characters if c not in "/{}" and unicodedata.category(c)[0] not in "CZ")


def nested(plan: Plan) -> Iterator[Cell]:
    """Yield folders above and below the class folders."""
    yield read_cell(plan, "two folders above the classes", classes(pattern="a/b c/{label}/{n}.jpg"))
    yield read_cell(plan, "folders below the classes", classes(pattern="{label}/p{n}/x/{label}{n}.jpg"))
    for parts in (("train", "val", "test"), ("Train", "Valid", "Test"), ("training", "testing"), ("TRAIN", "TEST")):
        official = {
            "train": "train",
            "training": "train",
            "test": "test",
            "testing": "test",
            "val": "val",
            "valid": "val",
        }
        images = {
            f"{part}/{label}/{part}{label}{n}.jpg": (label, official[part.lower()])
            for part in parts
            for label in ("mel", "nv")
            for n in range(4)
        }
        yield read_cell(plan, "/".join(parts), Folder(images))
    yield read_cell(plan, "train alone", classes(pattern="train/{label}/{label}{n}.jpg"))


def left_out(plan: Plan) -> Iterator[Cell]:
    """Yield what is no image of the folder: it is left out, and counted."""
    other, good = photo(99), classes()
    for what, files, says in (
        ("hidden files", ("mel/.a.jpg", "mel/._mel0.jpg"), "2 hidden files"),
        ("@eaDir", ("mel/@eaDir/mel0.jpg/SYNOPHOTO_THUMB_M.jpg",), "1 "),
        ("__MACOSX", ("__MACOSX/mel/._mel0.jpg",), "1 "),
        ("$RECYCLE.BIN", ("$RECYCLE.BIN/S-1-5/a.jpg",), "1 "),
        (".ipynb_checkpoints", ("mel/.ipynb_checkpoints/mel0-checkpoint.jpg",), "1 hidden"),
        ("masks", ("mel/mel0_segmentation.png", "mel/mel1_mask.png", "nv/nv0_superpixels.png"), "3 segmentation masks"),
        ("thumbnails", ("mel/mel0_thumbnail.jpg", "nv/nv0.thumbnail.jpg"), "2 thumbnails"),
    ):
        yield read_cell(plan, what, Folder(good.images, dict.fromkeys(files, other)), "left out", says)
    others = {"Thumbs.db": b"x", "desktop.ini": b"x", ".DS_Store": b"x", "mel/notes.txt": b"x", "a.zip": b"PK"}
    yield read_cell(plan, "files of other programs", Folder(good.images, others))
    yield read_cell(plan, "a spreadsheet", Folder(good.images, {"labels.xlsx": b"PK"}), "labels.xlsx")
    yield read_cell(plan, "photos in an unknown format", Folder(good.images, {"mel/a.nef": b"x"}), "not read", ".nef")
    yield read_cell(plan, "an empty class folder", Folder(good.images, {"bcc/notes.md": b"x"}))


def links(plan: Plan) -> Iterator[Cell]:
    """Yield symbolic links."""
    good = classes()
    outside = {"../elsewhere/x.jpg": photo(50), "mel/mel9.jpg": "../../elsewhere/x.jpg"}
    yield read_cell(plan, "a linked image", Folder({**good.images, "mel/mel9.jpg": ("mel", "")}, outside))
    linked = {"../elsewhere/b0.jpg": photo(60), "../elsewhere/b1.jpg": photo(61), "bcc": "../elsewhere"}
    images = {**good.images, "bcc/b0.jpg": ("bcc", ""), "bcc/b1.jpg": ("bcc", "")}
    yield read_cell(plan, "a linked class folder", Folder(images, linked))
    yield read_cell(plan, "a link to the parent", Folder(good.images, {"mel/again": ".."}))
    yield refused_cell("a broken link", Folder(good.images, {"mel/mel9.jpg": "missing.jpg"}), "mel9.jpg")
    yield read_cell(plan, "the folder is a link", good, write=lambda work: _linked(good, work))


def _linked(folder: Folder, work: Path) -> None:
    folder.write(work / "real")
    (work / DATA).symlink_to("real")


def sizes(plan: Plan) -> Iterator[Cell]:
    """Yield many and few classes and images."""
    for count in (2, 3, 12, 60):
        labels = tuple(f"class {number:02}" for number in range(count))
        yield read_cell(plan, f"{count} classes", classes(2, labels))
    yield read_cell(plan, "4 images in a class", classes(4))
    scarce = Folder({**classes(4, ("nv",)).images, **classes(3, ("mel",)).images})
    yield read_cell(plan, "3 images in a class", scarce, '"scarce": {"mel": [3, 4]}')
    unknown = classes(4, ("zorn", "quax", "nv"))
    yield read_cell(plan, "classes that nobody knows", unknown, '"unknown_classes": ["quax", "zorn"]')


def copies(plan: Plan) -> Iterator[Cell]:
    """Yield copies of images, under one label or two."""
    good = classes()
    yield read_cell(
        plan, "copies under one label", _copied(good, {f"mel/copy{n}.jpg": f"mel/mel{n}.jpg" for n in range(3)})
    )
    pairs = {f"nv/other{n}.jpg": f"mel/mel{n}.jpg" for n in range(7)}
    conflicting = _copied(classes(8), pairs)
    yield refused_cell("7 copies under two labels, all listed", conflicting, *pairs, *pairs.values())
    leaking = (
        classes(pattern="train/{label}/{label}{n}.jpg").images | classes(pattern="test/{label}/t{label}{n}.jpg").images
    )
    official = Folder({path: (label, path.split("/")[0]) for path, (label, _) in leaking.items()})
    leak = _copied(official, {"test/mel/copy.jpg": "train/mel/mel0.jpg"})
    yield refused_cell("a copy in two official splits", leak, "test/mel/copy.jpg", "train/mel/mel0.jpg")


def _copied(folder: Folder, copies: Mapping[str, str]) -> Folder:
    """Add copies of images: path of the copy -> path of the original."""
    order = list(folder.images)
    contents = {copy: photo(order.index(original)) for copy, original in copies.items()}
    places = {copy: (copy.split("/")[-2], copy.split("/")[0] if copy.count("/") > 1 else "") for copy in copies}
    return Folder({**folder.images, **places}, contents)


def refused_cell(name: str, folder: Folder, *words: str) -> Cell:
    """Return the cell of a folder that `data check` refuses."""
    return Cell(name, (CHECK,), one_line(*words), lambda work: folder.write(work / DATA))


def refused(plan: Plan) -> Iterator[Cell]:
    """Yield folders that are no dataset."""
    good, one = classes(), classes(labels=("mel",))
    yield refused_cell("one class", one, "at least two are needed", DATA)
    yield refused_cell("no image", Folder({}, {"mel/a.txt": b"x"}), "no images", DATA)
    yield refused_cell(
        "images in no class folder", Folder(good.images, {"a.jpg": photo(70)}), "no class folder", "a.jpg"
    )
    yield Cell("a missing folder", (CHECK,), one_line("no such folder", DATA))
    yield Cell("a file instead of a folder", (CHECK,), one_line(DATA), lambda work: _touch(work / DATA))
    yield refused_cell("an empty image", Folder(good.images, {"mel/empty.jpg": b""}), "mel/empty.jpg")
    half = photo(71)[:400]
    yield refused_cell("a truncated image", Folder(good.images, {"nv/half.jpg": half}), "nv/half.jpg")
    yield Cell("a pipe named .jpg", (CHECK,), one_line("mel/pipe.jpg"), lambda work: _with_pipe(good, work / DATA))


def _touch(path: Path) -> None:
    path.write_text("x")


def _with_pipe(folder: Folder, root: Path) -> None:
    folder.write(root)
    os.mkfifo(root / "mel/pipe.jpg")
