"""The run directory: stages, manifests, full and read-only disks, and leftovers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from examples import manifest

from skinedge.core.errors import BundleError
from skinedge.core.preprocess import Preprocess
from skinedge.run.run_directory import Bundle, newest


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    root = tmp_path / "run"
    root.mkdir()
    return Bundle.create(root, manifest())


def test_a_manifest_survives_a_round_trip(bundle: Bundle) -> None:
    assert Bundle.open(bundle.root).manifest == bundle.manifest


def test_a_stage_lists_its_files(bundle: Bundle) -> None:
    with bundle.stage("one", "test", {"input": "abc"}) as stage:
        stage.path("sub/a.txt", precision="fp32").write_text("hello")
        stage.set(default_file="sub/a.txt")
    again = bundle.reload()
    entry = again.entries()["sub/a.txt"]
    assert (entry.size, entry.info, entry.made_from) == (5, {"precision": "fp32"}, {"input": "abc"})
    assert again.manifest.default_file == "sub/a.txt"
    assert again.file("sub/a.txt").read_text() == "hello"
    assert again.is_current("one", {"input": "abc"})
    assert not again.is_current("one", {"input": "other"})
    assert not again.is_current("two", {})


def test_a_failed_stage_changes_nothing(bundle: Bundle) -> None:
    with bundle.stage("one", "test", {}) as stage:
        stage.path("a.txt").write_text("old")
    before = (bundle.root / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="boom"), bundle.stage("one", "test", {}) as stage:
        stage.path("a.txt").write_text("new")
        stage.path("b.txt").write_text("new")
        raise ValueError("boom")
    assert (bundle.root / "a.txt").read_text() == "old"
    assert (bundle.root / "manifest.json").read_bytes() == before
    assert {path.name for path in bundle.root.iterdir()} == {"a.txt", "manifest.json", ".manifest.lock"}


def test_a_stage_that_does_not_write_an_announced_file_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"did not write 'b\.txt'"), bundle.stage("one", "test", {}) as stage:
        stage.path("a.txt").write_text("new")
        stage.path("b.txt")
    assert not (bundle.root / "a.txt").exists()


def test_changed_missing_and_unlisted_files_have_different_errors(bundle: Bundle) -> None:
    with bundle.stage("one", "test", {}) as stage:
        stage.path("a.txt").write_text("old")
    bundle = bundle.reload()
    (bundle.root / "a.txt").write_text("edited")
    with pytest.raises(BundleError, match="does not match the hash"):
        bundle.file("a.txt")
    assert not bundle.is_current("one", {})
    (bundle.root / "a.txt").unlink()
    with pytest.raises(BundleError, match="missing"):
        bundle.file("a.txt")
    with pytest.raises(BundleError, match=r"has no file 'b\.txt'"):
        bundle.file("b.txt")


def test_an_unfinished_or_damaged_run_is_an_error(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no such run"):
        Bundle.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="not a run directory"):
        Bundle.open(tmp_path / "empty")
    path = bundle.root / "manifest.json"
    raw = json.loads(path.read_text())
    for damaged in ("{", "[]", json.dumps({**raw, "schema": "skinedge.manifest/9"}), json.dumps({**raw, "x": 1})):
        path.write_text(damaged)
        with pytest.raises(BundleError):
            Bundle.open(bundle.root)


@pytest.mark.parametrize(
    "change",
    [
        {"preprocess": {**asdict(Preprocess(224)), "mean": [1.0, 2.0]}},
        {"preprocess": {**asdict(Preprocess(224)), "size": "large"}},
        {"preprocess": {**asdict(Preprocess(224)), "std": [0.0, 1.0, 1.0]}},
        {"preprocess": 3},
        {"labels": "mn"},
        {"labels": ["nv", "nv"]},
        {"labels": [["mel"], ["nv"]]},
        {"taxonomy": {"mel": "malignant"}},
        {"taxonomy": {"mel": "malignant", "nv": "harmless"}},
        {"melanoma": "melanoma"},
        {"class_prior": {"mel": 1.0}},
        {"class_prior": {"mel": "much", "nv": 0.5}},
        {"thresholds": {"default": None}},
        {"stages": {"one": {"finished_at": "", "files": [3]}}},
    ],
)
def test_a_malformed_manifest_is_an_error_and_newest_skips_its_run(
    tmp_path: Path, bundle: Bundle, change: dict[str, object]
) -> None:
    path = bundle.root / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match="damaged manifest"):
        Bundle.open(bundle.root)
    (tmp_path / "older").mkdir()
    Bundle.create(tmp_path / "older", manifest("older", created_at="2025-01-01"))
    assert newest(tmp_path).manifest.id == "older"


def test_the_newest_run_is_chosen_by_creation_time_and_may_exclude_synthetic_ones(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no complete run"):
        newest(tmp_path)
    for name, at, synthetic in (("b", "2026-01-01", False), ("a", "2026-02-01", False), ("c", "2026-03-01", True)):
        (tmp_path / name).mkdir()
        Bundle.create(tmp_path / name, manifest(name, created_at=at, synthetic=synthetic))
    (tmp_path / "unfinished").mkdir()
    assert newest(tmp_path).manifest.name == "c"
    assert newest(tmp_path, allow_synthetic=False).manifest.name == "a"


def test_synthetic_runs_alone_are_an_error_where_real_ones_are_needed(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    Bundle.create(tmp_path / "c", manifest("c", synthetic=True))
    with pytest.raises(BundleError, match="synthetic"):
        newest(tmp_path, allow_synthetic=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_and_loses_nothing(small_disk: Path) -> None:
    from safetensors.numpy import save_file

    root = small_disk / "run"
    root.mkdir()
    bundle = Bundle.create(root, manifest())
    with bundle.stage("one", "test", {}) as stage:
        stage.path("a.bin").write_bytes(b"old")
    before = {p.name: p.read_bytes() for p in root.iterdir()}
    writers = (
        lambda path: path.write_bytes(bytes(2_000_000)),
        lambda path: save_file({"a": np.zeros(500_000, np.float32)}, str(path)),
    )
    for write in writers:
        with pytest.raises(BundleError, match="disk is full"), bundle.stage("one", "test", {}) as stage:
            write(stage.path("a.bin"))
        assert {p.name: p.read_bytes() for p in root.iterdir()} == before


def two_stages(bundle: Bundle) -> Bundle:
    """Write the stage 'old': a.txt, b.txt and reports/c.txt."""
    with bundle.stage("old", "test", {}) as stage:
        for name in ("a.txt", "b.txt", "reports/c.txt"):
            stage.path(name).write_text(f"old {name}")
    return bundle.reload()


def files_of(bundle: Bundle) -> dict[str, bytes]:
    return {
        str(path.relative_to(bundle.root)): path.read_bytes()
        for path in bundle.root.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_stage_removes_files_when_it_is_committed(bundle: Bundle) -> None:
    bundle = two_stages(bundle)
    with bundle.stage("new", "test", {}) as stage:
        stage.path("d.txt").write_text("new")
        stage.remove("a.txt", "reports/c.txt", "never-there.txt")
        assert (bundle.root / "a.txt").exists(), "removed before the commit"
    after = bundle.reload()
    assert set(after.entries()) == {"b.txt", "d.txt"}
    assert set(files_of(after)) == {"b.txt", "d.txt", "manifest.json"}
    assert after.is_current("old", {}), "the remaining files of the older stage are unchanged"


def test_a_stage_without_remaining_files_is_removed(bundle: Bundle) -> None:
    bundle = two_stages(bundle)
    with bundle.stage("new", "test", {}) as stage:
        stage.path("d.txt").write_text("new")
        stage.remove("a.txt", "b.txt", "reports/c.txt")
    assert list(bundle.reload().manifest.stages) == ["new"]
    assert not bundle.reload().is_current("old", {})


def test_a_failed_stage_removes_nothing(bundle: Bundle) -> None:
    bundle = two_stages(bundle)
    before = files_of(bundle)
    with pytest.raises(ValueError, match="boom"), bundle.stage("new", "test", {}) as stage:
        stage.path("d.txt").write_text("new")
        stage.remove("a.txt")
        raise ValueError("boom")
    assert files_of(bundle) == before


def test_leftovers_of_an_earlier_version_are_restored_or_removed_after_a_day(bundle: Bundle) -> None:
    """It was killed after renaming the old a.txt and before writing its manifest."""
    bundle = two_stages(bundle)
    before = files_of(bundle)
    (bundle.root / "a.txt").rename(bundle.root / "a.txt.0a1b2c3d.part.old")
    (bundle.root / "a.txt").write_text("new")
    for name in ("reports/c.txt.0a1b2c3d.part", "manifest.json.part", "b.txt.0a1b2c3d.part.old"):
        (bundle.root / name).write_text("leftover")
    (bundle.root / "young.txt.0a1b2c3d.part").write_text("young")
    (bundle.root / "mine.partial").write_text("mine")
    for path in bundle.root.rglob("*.*"):
        if not path.name.startswith("young"):
            os.utime(path, (0, 0))
    with bundle.stage("third", "test", {}):
        pass
    left = files_of(bundle)
    assert {**left, "manifest.json": b""} == {
        **before, "manifest.json": b"", "young.txt.0a1b2c3d.part": b"young", "mine.partial": b"mine"
    }  # fmt: skip


@pytest.mark.parametrize("pending", [False, True])
def test_a_read_only_run_opens_unless_a_commit_is_unfinished(bundle: Bundle, pending: bool) -> None:
    bundle = two_stages(bundle)
    folder = bundle.root / ".stage-0a1b2c3d"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "commit.json").write_text('{"moved": [], "removed": []}')
    if pending:
        (folder / "manifest.json").unlink()
    if subprocess.run(["mount", "--bind", "-o", "ro", bundle.root, bundle.root], capture_output=True).returncode:
        pytest.skip("mounting a folder read-only needs root")
    subprocess.run(["mount", "-o", "remount,ro,bind", bundle.root], check=True)
    try:
        if pending:
            with pytest.raises(BundleError, match="Open the run once"):
                Bundle.open(bundle.root)
        else:
            Bundle.open(bundle.root)
            with pytest.raises(BundleError, match="Read-only file system"), bundle.stage("third", "test", {}):
                pass
    finally:
        subprocess.run(["umount", bundle.root], check=True)
    Bundle.open(bundle.root)
    assert not folder.exists()


def test_user_files_with_similar_names_are_kept(bundle: Bundle) -> None:
    bundle = two_stages(bundle)
    for name in ("notes.part", "..part", "reports/thesis.0a1b2c3d.part", ".stage-mine/notes.txt"):
        (bundle.root / name).parent.mkdir(exist_ok=True)
        (bundle.root / name).write_text("mine")
        os.utime(bundle.root / name, (0, 0))
    with bundle.stage("third", "test", {}):
        pass
    assert list(files_of(bundle).values()).count(b"mine") == 4


def test_a_folder_named_like_a_file_to_remove_is_refused_before_the_commit(bundle: Bundle) -> None:
    bundle = two_stages(bundle)
    (bundle.root / "a.txt").unlink()
    (bundle.root / "a.txt").mkdir()
    before = (bundle.root / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match=r"a\.txt: is a folder"), bundle.stage("new", "test", {}) as stage:
        stage.remove("a.txt")
    assert (bundle.root / "manifest.json").read_bytes() == before
    assert Bundle.open(bundle.root).manifest == bundle.manifest


def test_folders_named_like_lock_files(bundle: Bundle) -> None:
    bundle = two_stages(bundle)
    (bundle.root / ".stage-0a1b2c3d" / ".lock").mkdir(parents=True)
    with bundle.stage("third", "test", {}):
        pass
    (bundle.root / ".manifest.lock").unlink(missing_ok=True)
    (bundle.root / ".manifest.lock").mkdir()
    with (
        pytest.raises(BundleError, match=r"\.manifest\.lock: is a folder"),
        bundle.reload().stage("fourth", "test", {}),
    ):
        pass
