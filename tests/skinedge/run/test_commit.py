"""Atomic commits: a fault at any file system call leaves the run either with or without the stage."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM

import pytest
from examples import manifest
from injected import TRACEBACK, Fault, calls_of, run, status_of

from skinedge.core.errors import BundleError
from skinedge.core.files import write_atomic
from skinedge.run import commit
from skinedge.run.run_directory import Bundle

MakeFault = Callable[[int], Fault]
FAULTS: dict[str, MakeFault] = {
    "kill": lambda at: Fault(at, signal=SIGKILL),
    "term": lambda at: Fault(at, signal=SIGTERM),
    "hup": lambda at: Fault(at, signal=SIGHUP),
    "int": lambda at: Fault(at, signal=SIGINT),
    "full disk": lambda at: Fault(at, errno=errno.ENOSPC),
    "full disk from then on": lambda at: Fault(at, errno=errno.ENOSPC, lasting=True),
    "denied": lambda at: Fault(at, errno=errno.EACCES),
    "broken disk": lambda at: Fault(at, errno=errno.EIO),
    "broken disk from then on": lambda at: Fault(at, errno=errno.EIO, lasting=True),
}


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync, which takes most of the time: only a power failure loses unsynced data."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A run with the stage 'old': a.txt, b.txt and reports/c.txt."""
    root = tmp_path / "run"
    root.mkdir()
    bundle = Bundle.create(root, manifest())
    with bundle.stage("old", "test", {}) as stage:
        for name in ("a.txt", "b.txt", "reports/c.txt"):
            stage.path(name).write_text(f"old {name}")
    return bundle.reload()


def write(root: Path) -> None:
    """Write the stage 'new': replaces a.txt, removes b.txt, adds new/d.txt."""
    with Bundle.open(root).stage("new", "test", {}) as stage:
        for name in ("a.txt", "new/d.txt"):
            stage.path(name).write_text(f"new {name}")
        stage.remove("b.txt")
        stage.set(default_file="new/d.txt")


def content(root: Path) -> dict[str, bytes]:
    """Return all files except locks; the manifest without its times."""
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}
    return {**files, "manifest.json": re.sub(rb'"finished_at": "[^"]*"', b"", files["manifest.json"])}


def checked(root: Path) -> dict[str, bytes]:
    """Open a run and return its listed files, with hashes checked."""
    bundle = Bundle.open(root)
    return {name: bundle.file(name).read_bytes() for name in bundle.entries()}


def content_after(root: Path, copy: Path, action: Callable[[Path], object]) -> dict[str, bytes]:
    """Return the content of a copy of the run after an undisturbed action."""
    shutil.copytree(root, copy)
    action(copy)
    return content(copy)


@pytest.mark.parametrize("make_fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_at_any_call_leaves_the_old_run_or_the_new_one(
    bundle: Bundle, tmp_path: Path, make_fault: MakeFault
) -> None:
    root, old = bundle.root, checked(bundle.root)
    new_content = content_after(root, tmp_path / "new", write)
    new = checked(tmp_path / "new")
    shutil.copytree(root, tmp_path / "counted")
    calls = calls_of(lambda: write(tmp_path / "counted"), tmp_path / "counted")
    assert sum("os.rename" in call for call in calls) == 3, calls
    committed = set()
    for at in range(1, len(calls) + 1):
        copy = tmp_path / f"run-{at}"
        shutil.copytree(root, copy)
        status = run(lambda copy=copy: write(copy), copy, make_fault(at))  # type: ignore[misc]
        assert status != TRACEBACK, calls[at - 1]
        files = checked(copy)
        assert files in (old, new), calls[at - 1]
        assert status or files == new, f"exit code 0 without the stage, after a fault at {calls[at - 1]}"
        committed.add(files == new)
        write(copy)
        assert content(copy) == new_content, calls[at - 1]
        shutil.rmtree(copy)
    assert committed == {True, False}


@pytest.fixture
def half_moved(bundle: Bundle) -> Path:
    """A run whose writer was killed between the commit and the first move."""
    root = bundle.root
    counted = shutil.copytree(root, root.with_name("other"))
    calls = calls_of(lambda: write(counted), counted)
    renamed = next(at for at, call in enumerate(calls, 1) if "os.rename" in call and commit.MANIFEST in call)
    assert run(lambda: write(root), root, Fault(renamed + 1, signal=SIGKILL)) == -SIGKILL
    assert (root / "a.txt").read_text() == "old a.txt" and list(root.glob(".stage-*"))
    return root


@pytest.mark.parametrize("make_fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_at_any_call_during_recovery_loses_nothing(
    half_moved: Path, tmp_path: Path, make_fault: MakeFault
) -> None:
    new_content = content_after(half_moved, tmp_path / "new", Bundle.open)
    shutil.copytree(half_moved, tmp_path / "counted")
    calls = calls_of(lambda: Bundle.open(tmp_path / "counted"), tmp_path / "counted")
    for at in range(1, len(calls) + 1):
        copy = shutil.copytree(half_moved, tmp_path / f"run-{at}")
        assert run(lambda copy=copy: Bundle.open(copy), copy, make_fault(at)) != TRACEBACK, calls[at - 1]  # type: ignore[misc]
        checked(copy)
        assert content(copy) == new_content, calls[at - 1]
        shutil.rmtree(copy)


def test_a_new_stage_finishes_a_half_moved_one_first(half_moved: Path) -> None:
    bundle = Bundle(half_moved, commit.Manifest.read(half_moved / "manifest.json"))  # opened before the kill
    with bundle.stage("third", "test", {}) as stage:
        stage.path("b.txt").write_text("third b.txt")
    assert set(checked(half_moved)) == {"a.txt", "b.txt", "new/d.txt", "reports/c.txt"}
    assert not list(half_moved.glob(".stage-*"))


def test_an_edited_manifest_loses_no_files_waiting_to_be_moved(half_moved: Path) -> None:
    path = half_moved / "manifest.json"
    path.write_text(path.read_text().replace('"name": "run"', '"name": "renamed"'))
    assert Bundle.open(half_moved).manifest.name == "renamed"
    assert checked(half_moved)["a.txt"] == b"new a.txt"


@pytest.mark.parametrize("name", ["../victim.txt", "/victim.txt", "a/../../victim.txt", "out/victim.txt", "a\\b", ""])
def test_a_journal_moves_and_removes_nothing_outside_the_run(half_moved: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    (half_moved / "out").symlink_to(tmp_path)
    name = str(victim) if name.startswith("/") else name
    for journal in (f'{{"moved": ["{name}"], "removed": []}}', f'{{"moved": [], "removed": ["{name}"]}}'):
        (journal_file,) = half_moved.glob(".stage-*/commit.json")
        journal_file.write_text(journal.replace("\\", "\\\\"))
        with pytest.raises(BundleError, match="the file name"):
            Bundle.open(half_moved)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"moved": 3, "removed": []}', "[" * 100_000])
def test_a_damaged_journal_is_an_error(half_moved: Path, text: str) -> None:
    (journal,) = half_moved.glob(".stage-*/commit.json")
    journal.write_text(text)
    with pytest.raises(BundleError, match="damaged journal"):
        Bundle.open(half_moved)


def test_names_that_are_folders_are_refused_before_the_commit(bundle: Bundle) -> None:
    before = content(bundle.root)
    for name in ("reports", "a.txt/b.txt"):
        with pytest.raises(BundleError, match="is a f"), bundle.stage("new", "test", {}) as stage:
            stage.path(name).write_text("new")
        assert content(bundle.root) == before


def test_the_stage_of_a_running_process_is_untouched(bundle: Bundle) -> None:
    with bundle.stage("new", "test", {}) as stage:
        path = stage.path("d.txt")
        path.write_text("new")
        assert run(lambda: Bundle.open(bundle.root), bundle.root) == 0
        Bundle.open(bundle.root)
        assert path.exists()
    assert Bundle.open(bundle.root).file("d.txt").read_text() == "new"


def commit_many(root: Path, name: str, count: int) -> None:
    for index in range(count):
        with Bundle.open(root).stage(f"{name}{index}", "test", {}) as stage:
            stage.path(f"{name}{index}.txt").write_text(name)


def test_two_processes_that_commit_at_once_lose_nothing(bundle: Bundle) -> None:
    count, children = 50, []
    for name in ("one", "two"):
        child = os.fork()
        if not child:
            os._exit(status_of(lambda name=name: commit_many(bundle.root, name, count)))  # type: ignore[misc]
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    written = {f"{name}{index}.txt" for name in ("one", "two") for index in range(count)}
    assert set(checked(bundle.root)) == {"a.txt", "b.txt", "reports/c.txt", *written}
    assert not list(bundle.root.glob(".stage-*"))


def test_killing_one_process_does_not_disturb_another(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.root, tmp_path / "counted")
    calls = calls_of(lambda: write(tmp_path / "counted"), tmp_path / "counted")
    child = os.fork()
    if not child:
        os._exit(status_of(lambda: commit_many(bundle.root, "steady", 50)))
    for at in range(1, len(calls) + 1, 2):
        run(lambda: write(bundle.root), bundle.root, Fault(at, signal=SIGKILL))
    assert os.waitpid(child, 0)[1] == 0
    assert {f"steady{index}.txt" for index in range(50)} <= set(checked(bundle.root))
    write(bundle.root)
    checked(bundle.root)
    assert not list(bundle.root.glob(".stage-*"))


@pytest.mark.parametrize("make_fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_at_any_call_of_an_atomic_write_leaves_the_old_or_new_file(
    tmp_path: Path, make_fault: MakeFault
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "file[1].json"
    path.write_text("old")
    calls = calls_of(lambda: write_atomic(path, "new"), folder)
    assert len(calls) >= 4, calls
    for at in range(1, len(calls) + 1):
        path.write_text("old")
        status = run(lambda: write_atomic(path, "new"), folder, make_fault(at))
        assert status != TRACEBACK and path.read_text() in ("old", "new"), calls[at - 1]
        assert status or path.read_text() == "new"
        write_atomic(path, "new")
        assert [entry.name for entry in folder.iterdir()] == [path.name], calls[at - 1]
