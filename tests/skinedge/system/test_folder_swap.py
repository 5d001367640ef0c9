"""Folder replacement is atomic under a signal or a disk error at any file system call."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest
from injected import TRACEBACK, Fault, calls_of, run

from skinedge.system import folder_swap
from skinedge.system.temporary_folder import PREFIX, scratch_folder, temporary_files_in

STRIKES = {
    "kill": {"signal": SIGKILL},
    "term": {"signal": SIGTERM},
    "int": {"signal": SIGINT},
    "full disk": {"errno": errno.ENOSPC},
    "denied": {"errno": errno.EACCES},
    "broken disk from then on": {"errno": errno.EIO, "lasting": True},
}


@pytest.fixture(autouse=True, params=["exchange", "renames"])
def swap_method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with an atomic exchange and with plain renames; fsync is off, as power failures are not tested."""
    if request.param == "renames":
        monkeypatch.setattr(folder_swap, "_exchange", lambda first, second: False)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def write(to: Path, text: str, *, replace: bool) -> None:
    with folder_swap.new_folder(to, replace=replace) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text(text)
        (folder / "b.txt").write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


NEW = {"sub/a.txt": "new", "b.txt": "new"}
OLD = {"mine.txt": "old"}


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("strike", STRIKES.values(), ids=STRIKES)
def test_fault_at_any_call_leaves_the_old_or_the_new_folder(
    tmp_path: Path, strike: dict[str, int], replace: bool
) -> None:
    def new_parent(name: str) -> Path:
        parent = tmp_path / name
        parent.mkdir()
        if replace:
            (parent / "[out]").mkdir()
            (parent / "[out]" / "mine.txt").write_text("old")
        return parent

    undisturbed = new_parent("undisturbed")
    calls = calls_of(lambda: write(undisturbed / "[out]", "new", replace=replace), undisturbed)
    outcomes = set()
    for at in range(1, len(calls) + 1):
        parent = new_parent(f"parent-{at}")
        out = parent / "[out]"
        status = run(lambda out=out: write(out, "new", replace=replace), parent, Fault(at, **strike))  # type: ignore
        assert status != TRACEBACK, calls[at - 1]
        folder_swap.recover(out)
        assert [path.name for path in parent.iterdir()] == (["[out]"] if out.exists() else []), calls[at - 1]
        assert out.exists() or not replace
        result = content(out) if out.exists() else OLD
        assert result in (OLD, NEW), calls[at - 1]
        assert status or result == NEW
        outcomes.add(result == NEW)
        if result == OLD:
            write(out, "new", replace=replace)
        assert content(out) == NEW and len(list(parent.iterdir())) == 1
    assert False in outcomes and (True in outcomes or "errno" in strike)


def test_folder_created_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileExistsError), folder_swap.new_folder(out) as folder:
        (folder / "a.txt").write_text("new")
        out.mkdir()
        (out / "mine.txt").write_text("old")
    assert content(out) == OLD and list(tmp_path.iterdir()) == [out]


def test_empty_folder_is_filled_and_similar_names_are_kept(tmp_path: Path) -> None:
    out, users = tmp_path / "out", tmp_path / "out.replaced-by-me"
    out.mkdir()
    users.mkdir()
    write(out, "new", replace=False)
    assert content(out) == NEW and users.is_dir()


def test_temporary_files_of_libraries_are_created_in_the_folder(tmp_path: Path) -> None:
    default = tempfile.gettempdir()
    with pytest.raises(ValueError, match="stop"), temporary_files_in(tmp_path):
        assert Path(tempfile.mkdtemp()).parent == tmp_path
        raise ValueError("stop")
    assert tempfile.gettempdir() == default


def test_scratch_folder_of_a_killed_process_is_removed_and_a_used_one_is_kept(tmp_path: Path) -> None:
    def work() -> None:
        with scratch_folder(tmp_path) as folder:
            (folder / "large.bin").write_bytes(bytes(1000))
            os.kill(os.getpid(), SIGKILL)

    with scratch_folder(tmp_path) as living:
        assert run(work, tmp_path) == -SIGKILL
        assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 2
        with scratch_folder(tmp_path) as other:
            assert {living, other} == set(tmp_path.glob(f"{PREFIX}*"))
    assert not list(tmp_path.iterdir())


def test_recover_keeps_user_folders_with_similar_names(tmp_path: Path) -> None:
    for name in (".out.new-backup", ".out.new-0123456789", "out.replaced-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    folder_swap.recover(tmp_path / "out")
    assert len(list(tmp_path.rglob("mine.txt"))) == 3


def test_failed_sync_after_the_swap_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write(tmp_path / "out", "old", replace=False)
    monkeypatch.setattr(folder_swap, "sync", full)
    write(tmp_path / "out", "new", replace=True)
    assert content(tmp_path / "out") == NEW
    assert "a power failure now may undo that" in capsys.readouterr().err
