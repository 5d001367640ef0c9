"""A folder takes its place whole, or the older one stays, whatever strikes and at whichever file system call."""

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
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system cannot exchange two names; nothing here is about power failures."""
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
def test_a_fault_at_any_call_leaves_the_old_folder_or_the_new(
    tmp_path: Path, strike: dict[str, int], replace: bool
) -> None:
    def fresh(name: str) -> Path:
        place = tmp_path / name
        place.mkdir()
        if replace:
            (place / "[out]").mkdir()
            (place / "[out]" / "mine.txt").write_text("old")
        return place

    counted = fresh("counted")
    calls = calls_of(lambda: write(counted / "[out]", "new", replace=replace), counted)
    seen = set()
    for at in range(1, len(calls) + 1):
        place = fresh(f"place-{at}")
        out = place / "[out]"
        status = run(lambda out=out: write(out, "new", replace=replace), place, Fault(at, **strike))  # type: ignore
        assert status != TRACEBACK, calls[at - 1]
        folder_swap.recover(out)
        assert [path.name for path in place.iterdir()] == (["[out]"] if out.exists() else []), calls[at - 1]
        assert out.exists() or not replace
        found = content(out) if out.exists() else OLD
        assert found in (OLD, NEW), calls[at - 1]
        assert status or found == NEW
        seen.add(found == NEW)
        if found == OLD:
            write(out, "new", replace=replace)
        assert content(out) == NEW and len(list(place.iterdir())) == 1
    assert False in seen and (True in seen or "errno" in strike)


def test_a_folder_that_came_into_being_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileExistsError), folder_swap.new_folder(out) as folder:
        (folder / "a.txt").write_text("new")
        out.mkdir()
        (out / "mine.txt").write_text("old")
    assert content(out) == OLD and list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_is_filled_and_folders_of_the_user_stay(tmp_path: Path) -> None:
    out, users = tmp_path / "out", tmp_path / "out.replaced-by-me"
    out.mkdir()
    users.mkdir()
    write(out, "new", replace=False)
    assert content(out) == NEW and users.is_dir()


def test_libraries_make_their_files_where_they_go_with_the_rest(tmp_path: Path) -> None:
    usual = tempfile.gettempdir()
    with pytest.raises(ValueError, match="stop"), temporary_files_in(tmp_path):
        assert Path(tempfile.mkdtemp()).parent == tmp_path
        raise ValueError("stop")
    assert tempfile.gettempdir() == usual


def test_the_scratch_folder_of_a_killed_process_is_removed_and_a_living_one_stays(tmp_path: Path) -> None:
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


def test_a_folder_of_the_users_with_a_like_name_stays(tmp_path: Path) -> None:
    for name in (".out.new-backup", ".out.new-0123456789", "out.replaced-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    folder_swap.recover(tmp_path / "out")
    assert len(list(tmp_path.rglob("mine.txt"))) == 3


def test_a_folder_that_cannot_be_synchronized_is_in_its_place_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write(tmp_path / "out", "old", replace=False)
    monkeypatch.setattr(folder_swap, "sync", full)
    write(tmp_path / "out", "new", replace=True)
    assert content(tmp_path / "out") == NEW
    assert "a power failure now may undo that" in capsys.readouterr().err
