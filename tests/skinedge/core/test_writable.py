"""A read-only folder and a full disk are detected before the work."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import manifest
from typer.testing import CliRunner

from skinedge.cli import app
from skinedge.core.errors import BundleError
from skinedge.core.files import check_writable, write_atomic
from skinedge.data.synthetic import write_dataset
from skinedge.run.run_directory import Bundle


def mounted(folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one megabyte."""
    yield from mounted(tmp_path / "small", "-o", "size=1m")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "fixed", "-o", "ro")


def test_check_writable_creates_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    with pytest.raises(BundleError, match="are needed; nothing was changed"):
        check_writable(tmp_path, 1 << 60)
    (tmp_path / "file").touch()
    for place in ("file", "file/b", "file/b/c"):
        with pytest.raises(BundleError, match="cannot write: file is a file, not a folder"):
            check_writable(tmp_path / place)
    with pytest.raises(BundleError, match="cannot write: file is a file, not a folder"):
        write_atomic(tmp_path / "file" / "b.json", "{}")


def test_read_only_folder_and_small_disk_are_refused(read_only: Path, small_disk: Path) -> None:
    with pytest.raises(BundleError, match="Read-only file system"):
        check_writable(read_only / "new")
    with pytest.raises(BundleError, match="MiB of free space, about 16 MiB are needed"):
        check_writable(small_disk)


def test_disk_is_checked_before_drawing_images(
    small_disk: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> None:
        raise RuntimeError("drawing began")

    monkeypatch.setattr("skinedge.data.synthetic.draw_photo", too_late)
    for disk in (small_disk, read_only):
        with pytest.raises(BundleError, match=r"needed|Read-only"):
            write_dataset(disk / "out", 70, 224, 0)
        assert not list(disk.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        ("merge",),
        ("export",),
        ("verify",),
        ("verify", "--layers"),
        ("bench",),
        ("report",),
        ("report", "--out", "FULL/report.html"),
        ("web", "--out", "FULL/site", "--run"),
        ("bench", "--out", "FULL/bench.json"),
    ],
    ids=" ".join,
)
def test_commands_check_free_space_before_reading_the_model(small_disk: Path, command: tuple[str, ...]) -> None:
    """The run on the small disk has no model: a command that read it first would report that instead."""
    run = small_disk / "run"
    run.mkdir()
    Bundle.create(run, manifest())
    words = [word.replace("FULL", str(small_disk)) for word in command]
    result = CliRunner().invoke(app, [*words[:1], str(run), *words[1:]] if words[-1] != "--run" else [*words, str(run)])
    assert isinstance(result.exception, BundleError) and "are needed" in str(result.exception), result.exception


@pytest.mark.parametrize("name", ["", ".", "folder"])
def test_write_atomic_does_not_replace_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="is a folder, not a file"):
        write_atomic(Path(name), "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
