"""The runtime that judges a file is ours, whatever else is installed; third-party plug-ins are real entry points."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skinedge.core.errors import ConfigError, MissingDependencyError
from skinedge.run.plugins import JUDGES, RUNTIMES, judge_for, load, names, runtimes_for

Install = Callable[..., None]
MODULE = """
class Runtime:
    name = {name!r}
    suffixes = {suffixes!r}
    optional = False

    def version(self):
        return "1.0"

    def open(self, path, threads):
        raise SystemExit("the third-party runtime was used")


runtime = Runtime()
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a package with the runtime `name` into a folder on sys.path."""
    folder = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(folder))

    def call(package: str, name: str, suffixes: tuple[str, ...], first_line: str = "") -> None:
        monkeypatch.delitem(sys.modules, f"{package}_runtime", raising=False)  # of an earlier test
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{RUNTIMES}]\n{name} = {package}_runtime:runtime\n")
        module = first_line + MODULE.format(name=name, suffixes=suffixes)
        (folder / f"{package}_runtime.py").write_text(module)

    return call


@pytest.mark.parametrize(("suffix", "judge"), JUDGES.items())
def test_a_third_party_runtime_never_becomes_the_judge(install: Install, suffix: str, judge: str) -> None:
    install("armnn_plugin", "armnn", tuple(JUDGES))
    file = Path(f"model{suffix}")
    assert names(RUNTIMES)[0] == "armnn"
    assert judge_for(file).name == judge and runtimes_for(file)[0].name == judge
    assert "armnn" in [runtime.name for runtime in runtimes_for(file)]


def test_every_command_judges_in_our_runtime(tiny_run: Path, install: Install, tmp_path: Path) -> None:
    install("armnn_plugin", "armnn", tuple(JUDGES))
    path = f"{tmp_path / 'site-packages'}:{':'.join(sys.path)}"
    command = [sys.executable, "-m", "skinedge", "verify", str(tiny_run / "model.int8.tflite"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    (file,) = (file for name, file in json.loads(done.stdout)["files"].items() if name.endswith(".tflite"))
    assert file["runtime"] == "litert"


def test_packages_with_the_same_runtime_name_are_listed(install: Install) -> None:
    install("fast_litert", "litert", (".tflite",))
    with pytest.raises(ConfigError, match=r"'litert': (fast_litert .* and skinedge|skinedge .* and fast_litert)"):
        judge_for(Path("model.tflite"))
    install("fast_armnn", "armnn", (".tflite",))
    install("slow_armnn", "armnn", (".tflite",))
    with pytest.raises(ConfigError, match=r"2 runtimes are named 'armnn'.*_armnn .* and .*_armnn"):
        load(RUNTIMES, "armnn")


def test_a_runtime_that_cannot_be_imported_is_skipped_unless_it_is_the_judge(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("armnn_plugin", "armnn", (".tflite",), "import a_library_that_is_not_there\n")
    assert "armnn" not in [runtime.name for runtime in runtimes_for(Path("model.tflite"))]
    assert "skipping the runtime 'armnn'" in capsys.readouterr().err
    with pytest.raises(MissingDependencyError, match="a-library-that-is-not-there"):
        load(RUNTIMES, "armnn")


def test_a_third_party_file_type_has_one_judge_or_an_error(install: Install) -> None:
    install("armnn_plugin", "armnn", (".armnn",))
    assert judge_for(Path("model.armnn")).name == "armnn"
    install("other_plugin", "other", (".armnn",))
    with pytest.raises(ConfigError, match="armnn, other"):
        judge_for(Path("model.armnn"))
