"""Commands whose standard streams are closed or full: nothing is lost in silence, nothing gets into a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/bin/sh").exists(), reason="a shell closes the streams")
SYNTH = ("data", "synth", "out", "--count", "70", "--size", "32")
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def run(*arguments: str, streams: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command; `streams`: redirections of the shell, such as '>&-'."""
    command = [sys.executable, "-m", "skinedge", *arguments]
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *command], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "target"), [(("--version",), "&-"), (SYNTH, "&-"), pytest.param(("--help",), "/dev/full", marks=FULL)]
)
def test_a_result_that_cannot_be_printed_is_an_error(tmp_path: Path, arguments: tuple[str, ...], target: str) -> None:
    done = run(*arguments, streams=f">{target}", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("error: ") == 1, done.stderr
    assert "'standard output'" in done.stderr and "Traceback" not in done.stderr


def test_notes_never_get_into_a_result(tmp_path: Path) -> None:
    """With standard error closed, Python prints to standard output instead."""
    assert run(*SYNTH, streams=">/dev/null <&-", cwd=tmp_path).returncode == 0
    plain, closed = (run("data", "check", "out", "--json", streams=streams, cwd=tmp_path) for streams in ("", "2>&-"))
    assert plain.returncode == closed.returncode and plain.stderr
    assert json.loads(closed.stdout) == json.loads(plain.stdout)


def test_no_file_takes_the_descriptor_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        "from skinedge.core.terminal import prepare_streams\n"
        "prepare_streams()\n"
        "with open('file', 'w') as file:\n"
        "    os.system('echo printed; echo noted >&2')\n"  # a child process, and so a library, prints nowhere
        "    file.write(str(file.fileno()))\n"
    )
    command = [sys.executable, "-c", code]
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == 0
    assert int((tmp_path / "file").read_text()) > 2
