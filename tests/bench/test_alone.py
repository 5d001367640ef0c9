"""Two benchmarks at once: real processes, a real lock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skinedge_bench.alone import watched

Cli = Callable[..., tuple[int, str, str]]
# Holds the lock until a line comes, then says whom it met.
FIRST = """
import sys
from pathlib import Path
from skinedge_bench.alone import watched
with watched(Path(sys.argv[1])) as others:
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


def test_nobody_is_met_where_nobody_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with watched(tmp_path / "lock") as others:
            assert others.met() == ()
    assert capsys.readouterr().err == ""


def test_both_benchmarks_know_of_each_other(
    first: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with watched(tmp_path / "lock") as others:
        (met,) = others.met()
    assert f"process {first.pid}" in met
    assert f"process {first.pid}" in capsys.readouterr().err
    out, _ = first.communicate("\n")
    assert f"process {os.getpid()}" in out
    with watched(tmp_path / "lock") as others:  # the next one is alone again
        assert others.met() == ()


def test_a_benchmark_that_was_killed_holds_nothing(first: subprocess.Popen[str], tmp_path: Path) -> None:
    first.kill()
    first.wait()
    with watched(tmp_path / "lock") as others:
        assert others.met() == ()


def test_where_no_lock_can_be_had_the_benchmark_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("a file, where a folder should be")
    with watched(tmp_path / "taken") as others:
        assert others.met() == ()
    assert "cannot be told" in capsys.readouterr().err


def test_a_name_that_cannot_be_written_costs_no_benchmark(
    first: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lock" / "bench.met").mkdir()
    with watched(tmp_path / "lock") as others:
        assert f"process {first.pid}" in others.met()[0]
    assert "another benchmark is running" in capsys.readouterr().err


def test_the_second_result_is_not_to_be_trusted(
    cli: Cli, foreign: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"skinedge-{os.getuid()}"
    with watched(folder):
        code, out, err = cli("bench", foreign(), "--protocol", "quick", "--json")
    assert code == 0 and "another benchmark is running" in err
    (row,) = json.loads(out)["rows"]
    assert not row["trustworthy"] and row["p50_ms"]
    assert any("another benchmark ran at the same time" in reason for reason in row["reasons"])
