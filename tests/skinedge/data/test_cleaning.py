"""Everything that training refuses in a folder is listed at once, and the proposed plan removes all of it."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dirty_folder import dirty_folder, photo

from skinedge.core.errors import ConfigError, DataError
from skinedge.data import plan
from skinedge.data.audit import AuditReport, audit
from skinedge.data.cleaning import propose
from skinedge.data.hashing import hash_images, inspect_images
from skinedge.data.plan import KEEP, LEAVE_OUT, PlanRow, read_plan, to_text
from skinedge.data.read_options import ReadOptions
from skinedge.data.readers import read, survey
from skinedge.data.split import split


def examine(root: Path, options: ReadOptions = ReadOptions()) -> tuple[AuditReport, tuple[PlanRow, ...]]:  # noqa: B008
    found = survey(root, options)
    inspection = inspect_images(found.dataset)
    report = audit(found.dataset, inspection, found.problems, found.unused_tables)
    return report, propose(found.dataset, inspection, report)


def test_every_problem_is_listed_completely(tmp_path: Path) -> None:
    report, _ = examine(dirty_folder(tmp_path))
    assert not report.sound
    assert report.two_labels == tuple((f"mel/m{case}.png", f"nv/same{case}.png") for case in range(3))
    assert [path for path, _ in report.unreadable] == [f"nv/broken{case}.png" for case in range(3)]
    assert report.unknown_classes == ("blip0", "blip1", "blip2")
    assert report.scarce == {f"melanoma {case}": (1, 4) for case in range(3)}
    cases = {problem.what.partition(",")[0]: problem.cases for problem in report.problems}
    assert cases["images are in no class folder"] == tuple(f"loose{case}.png" for case in range(3))
    unread = cases["tables beside the images cannot be read"]
    assert unread == tuple(f"table{case}.csv (line 2 has more cells than the header)" for case in range(3))
    assert len(report.unused_tables) == 6 and "visits2.csv (columns visit, doctor)" in report.unused_tables
    assert any("4 classes mean melanoma" in reason for reason in report.refusals)
    with pytest.raises(DataError, match="2 kinds of problems") as caught:
        read(tmp_path)
    assert "3 images are in no class folder" in str(caught.value) and "3 tables beside" in str(caught.value)


def test_the_plan_removes_what_it_can_and_nothing_else(tmp_path: Path) -> None:
    root = dirty_folder(tmp_path / "data")
    before = sorted(path for path in root.rglob("*") if path.is_file())
    _, rows = examine(root)
    (tmp_path / "plan.csv").write_text(to_text(rows))
    for case in range(3):
        (root / f"table{case}.csv").unlink()  # a table is repaired by hand
    options = ReadOptions(plan=tmp_path / "plan.csv")
    report, again = examine(root, options)
    assert report.sound and not report.scarce and not report.refusals
    assert [row for row in again if row.action == LEAVE_OUT] == []
    dataset = read(root, options)
    assert Counter(sample.label for sample in dataset.samples) == {
        "mel": 9,
        "nv": 12,
        "blip0": 4,
        "blip1": 4,
        "blip2": 4,
    }
    assert {sample.split for sample in split(hash_images(dataset), 0)} == {"train", "val", "cal", "test"}
    assert [path for path in before if path.exists() or not path.name.startswith("table")] == [
        path for path in before if not path.name.startswith("table")
    ]


def test_each_row_says_why_and_which_copy_stays(tmp_path: Path) -> None:
    _, rows = examine(dirty_folder(tmp_path))
    of_image = {row.image: row for row in rows}
    assert (of_image["mel/copy0.png"].action, of_image["mel/copy0.png"].reason) == (KEEP, "the copy that stays")
    assert (of_image["mel/m5.png"].action, of_image["mel/m5.png"].same_as) == (LEAVE_OUT, "mel/copy0.png")
    conflict = of_image["nv/same1.png"]
    assert (conflict.action, conflict.same_as) == (LEAVE_OUT, "mel/m1.png")
    assert conflict.reason == "the same image under two labels: mel and nv"
    assert of_image["nv/broken2.png"].reason.startswith("unreadable: ")
    assert of_image["melanoma 1/s1.png"].reason.startswith("class melanoma 1 has 1 lesions")
    assert of_image["loose0.png"].reason.startswith("images are in no class folder")
    assert all(len(row.sha256) == 64 for row in rows)


def plan_of(root: Path, to: Path) -> list[dict[str, str]]:
    to.write_text(to_text(examine(root)[1]))
    with to.open(newline="") as stream:
        return list(csv.DictReader(stream))


def save(path: Path, rows: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> None:
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def small_folder(root: Path) -> Path:
    for number in range(6):
        photo(root / "mel" / f"=m{number}, ä.png", number)  # a name that a spreadsheet would evaluate
        photo(root / "nv" / f"n{number}.png", 100 + number)
    (root / "nv" / "same.png").write_bytes((root / "mel" / "=m0, ä.png").read_bytes())
    return root


def test_an_edited_plan_from_a_spreadsheet_counts(tmp_path: Path) -> None:
    root, file = small_folder(tmp_path / "data"), tmp_path / "plan.csv"
    rows = plan_of(root, file)
    assert [(row["action"], row["image"]) for row in rows] == [
        ("leave out", "mel/=m0, ä.png"),
        ("leave out", "nv/same.png"),
    ]
    rows[0]["action"] = "keep"
    save(file, [*rows, {**dict.fromkeys(rows[0], ""), "action": "leave out", "image": "nv/n3.png"}], ";", "utf-16")
    paths = {sample.path for sample in read(root, ReadOptions(plan=file)).samples}
    assert "mel/=m0, ä.png" in paths and not paths & {"nv/same.png", "nv/n3.png"} and len(paths) == 11


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"action": "delete"}, "line 3: unknown action 'delete'"),
        ({"action": ""}, "line 3: unknown action ''"),
        ({"image": "nv/none.png"}, "line 3: no image nv/none.png"),
        ({"image": ""}, "line 3: no image"),
        ({"image": "mel/=m0, ä.png", "action": "keep"}, "line 3: mel/=m0, ä.png has another action in line 2"),
        ({"sha256": "0" * 64}, "line 3: nv/same.png is another image than the plan was made for"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, edit: dict[str, str], message: str) -> None:
    root, file = small_folder(tmp_path / "data"), tmp_path / "plan.csv"
    rows = plan_of(root, file)
    rows[1] |= edit
    save(file, rows)
    with pytest.raises(ConfigError, match="the plan cannot be applied") as caught:
        read(root, ReadOptions(plan=file))
    assert message in str(caught.value) and str(file) in str(caught.value)


def test_a_plan_of_another_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.csv"
    plan_of(small_folder(tmp_path / "one"), file)
    for number in range(6):
        photo(tmp_path / "two" / "mel" / f"=m{number}, ä.png", 500 + number)
        photo(tmp_path / "two" / "nv" / f"n{number}.png", 600 + number)
    with pytest.raises(ConfigError, match=r"(?s)line 2: .* is another image.*line 3: no image.*of another folder"):
        read(tmp_path / "two", ReadOptions(plan=file))


def test_a_runs_own_plan_may_name_images_that_are_gone(tmp_path: Path) -> None:
    root, file = small_folder(tmp_path / "data"), tmp_path / "plan.csv"
    plan_of(root, file)
    (root / "nv" / "same.png").unlink()
    with pytest.raises(ConfigError, match=r"line 3: no image nv/same\.png"):
        read(root, ReadOptions(plan=file))
    assert len(read(root, ReadOptions(plan=file, recorded=True)).samples) == 11


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "action,image\n1,2,3\n"])
def test_a_file_that_is_no_plan(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"x\.csv: (not a cleaning plan|the plan cannot be read)"):
        read_plan(tmp_path / "x.csv")
    with pytest.raises(ConfigError, match="cannot be read: no such file"):
        read_plan(tmp_path / "none.csv")


def test_a_plan_in_the_folder_is_not_a_table_of_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = small_folder(tmp_path)
    plan_of(root, root / "plan.csv")
    assert len(read(root).samples) == 13
    assert "plan.csv is a cleaning plan; it takes effect with --plan" in capsys.readouterr().err


def test_images_of_a_table_that_cannot_be_used_are_in_the_plan(tmp_path: Path) -> None:
    """Rows without a label or that differ, images without a row, two images of one name, two lesions of an image."""
    root = tmp_path / "data"
    for number in range(16):
        photo(root / f"i{number}.png", number)
    photo(root / "again" / "i9.png", 900)
    lines = ["image,label,lesion_id", *(f"i{n},{'mel' if n % 2 else 'nv'},L{n}" for n in range(14))]
    lines[1] = "i0,,L0"
    (root / "t.csv").write_text("\n".join([*lines, "i2,mel,L2"]) + "\n")
    (root / "lesions.csv").write_text("image,lesion_id\ni4,L77\n")
    report, rows = examine(root)
    assert [len(problem.cases) for problem in report.problems] == [1, 1, 2, 1, 1]
    assert {row.image for row in rows} == {"i0.png", "i2.png", "i4.png", "i9.png", "again/i9.png", "i14.png", "i15.png"}
    (tmp_path / "plan.csv").write_text(to_text(rows))
    assert len(read(root, ReadOptions(plan=tmp_path / "plan.csv")).samples) == 10
    kept = [replace(row, action=KEEP) if row.image == "i9.png" else row for row in rows]  # the right one of two
    (tmp_path / "plan.csv").write_text(to_text(kept))
    assert len(read(root, ReadOptions(plan=tmp_path / "plan.csv")).samples) == 11


def test_leaks_between_official_splits_leave_the_training_images_out(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for part, first in (("train", 0), ("val", 100), ("test", 200)):
        for number in range(6):
            photo(root / part / ("nv" if number % 2 else "mel") / f"{part}{number}.png", first + number)
    (root / "train" / "mel" / "copy.png").write_bytes((root / "test" / "mel" / "test0.png").read_bytes())
    lines = ["image,lesion_id", "train1,L1", "val1,L1", "train3,L3", "test3,L3", "val3,L3"]
    (root / "lesions.csv").write_text("\n".join(lines) + "\n")
    report, rows = examine(root)
    assert len(report.leaks) >= 3
    omitted = {row.image: row.reason for row in rows if row.action == LEAVE_OUT}
    assert omitted == {
        "train/mel/copy.png": "its content is in test too",
        "train/nv/train1.png": "its lesion is in val too",
        "train/nv/train3.png": "its lesion is in test too",
        "val/nv/val3.png": "its lesion is in test too",
    }
    (tmp_path / "plan.csv").write_text(to_text(rows))
    assert examine(root, ReadOptions(plan=tmp_path / "plan.csv"))[0].sound


def test_an_archives_images_are_left_out(tmp_path: Path) -> None:
    arrays = {}
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = rng.integers(0, 256, (14, 8, 8, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(14) % 7)[:, None].astype(np.uint8)
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    rows = (PlanRow(LEAVE_OUT, "dermamnist.npz#val/3"),)
    (tmp_path / "plan.csv").write_text(to_text(rows))
    found = read(tmp_path / "dermamnist.npz", ReadOptions(plan=tmp_path / "plan.csv"))
    assert len(found.samples) == 41 and "dermamnist.npz#val/3" not in {sample.path for sample in found.samples}


def test_an_empty_plan_changes_nothing(tmp_path: Path) -> None:
    for label in ("mel", "nv"):
        photo(tmp_path / "data" / label / f"{label}.png", len(label))
    (tmp_path / "plan.csv").write_text(to_text(()))
    assert read_plan(tmp_path / "plan.csv") == ()
    assert len(read(tmp_path / "data", ReadOptions(plan=tmp_path / "plan.csv")).samples) == 2
    assert plan.left_out(ReadOptions(), tmp_path, []) == frozenset()
