"""Two benchmarks at once: real processes, a real lock."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skinedge_bench.latency.bench_lock import bench_lock, private_folder

Cli = Callable[..., tuple[int, str, str]]
# Holds the lock until a line arrives, then prints the benchmarks it met.
FIRST = """
import sys
from pathlib import Path
from skinedge_bench.latency.bench_lock import bench_lock
with bench_lock(Path(sys.argv[1])) as others:
    print("ready", flush=True)
    sys.stdin.readline()
    print(others.met())
"""


@pytest.fixture
def first(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", FIRST, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_benchmark_without_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with bench_lock(tmp_path / "lock") as others:
            assert others.met() == ()
    assert capsys.readouterr().err == ""


def test_concurrent_benchmarks_know_each_other(
    first: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with bench_lock(tmp_path / "lock") as others:
        (met,) = others.met()
    assert f"process {first.pid}" in met
    assert f"process {first.pid}" in capsys.readouterr().err
    out, _ = first.communicate("\n")
    assert f"process {os.getpid()}" in out
    with bench_lock(tmp_path / "lock") as others:  # the next one meets none
        assert others.met() == ()


def test_a_killed_benchmark_releases_the_lock(first: subprocess.Popen[str], tmp_path: Path) -> None:
    first.kill()
    first.wait()
    with bench_lock(tmp_path / "lock") as others:
        assert others.met() == ()


def test_the_benchmark_continues_without_a_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("a file instead of a folder")
    with bench_lock(tmp_path / "taken") as others:
        assert others.met() == ()
    assert "cannot check for concurrent benchmarks" in capsys.readouterr().err


def test_the_benchmark_continues_if_its_name_cannot_be_written(
    first: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lock" / "bench.met").mkdir()
    with bench_lock(tmp_path / "lock") as others:
        assert f"process {first.pid}" in others.met()[0]
    assert "another benchmark is running" in capsys.readouterr().err


def test_the_second_result_is_not_trustworthy(
    cli: Cli, foreign: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    folder = tmp_path / f"skinedge-{os.getuid()}"
    with bench_lock(folder):
        code, out, err = cli("bench", foreign(), "--protocol", "quick", "--json")
    assert code == 0 and "another benchmark is running" in err
    (row,) = json.loads(out)["rows"]
    assert not row["trustworthy"] and row["p50_ms"]
    assert any("another benchmark ran at the same time" in reason for reason in row["reasons"])


def test_the_runtime_folder_is_used_if_it_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, open_to_all = tmp_path / "private", tmp_path / "open"
    private.mkdir(mode=0o700)
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to(private)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for named in (open_to_all, link, tmp_path / "missing", ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(named))
        assert private_folder() == tmp_path / f"skinedge-{os.getuid()}"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(private))
    with bench_lock() as others:
        assert others.met() == () and (private / "skinedge" / "bench.holder").read_text().startswith("process ")


@pytest.mark.parametrize("name", ["bench.lock", "bench.holder", "bench.met"])
@pytest.mark.parametrize("hostile", ["folder", "link to a folder", "mode"])
def test_nothing_is_written_through_links_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, hostile: str
) -> None:
    victim, lock = tmp_path / "victim.txt", tmp_path / "lock"
    victim.write_text("a file of the user")
    real = tmp_path / "elsewhere" if hostile == "link to a folder" else lock
    real.mkdir(mode=0o700)
    if hostile == "link to a folder":
        lock.symlink_to(real)
    if hostile == "mode":
        real.chmod(0o777)
    (real / name).symlink_to(victim)
    with bench_lock(lock) as others, bench_lock(lock):  # the second one writes its name too
        others.met()
    assert victim.read_text() == "a file of the user"
    if hostile != "folder":
        assert "cannot check for concurrent benchmarks" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "lock"
    lock.mkdir(mode=0o700)
    os.chown(lock, 12345, 12345)
    with bench_lock(lock):
        assert list(lock.iterdir()) == []
    assert "not private" in capsys.readouterr().err
