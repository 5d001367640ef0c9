"""Requirements against installed distributions, with real distributions and modules in a separate folder."""

from __future__ import annotations

import importlib
import platform
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement

from skinedge.core.errors import IncompatibleDependencyError, MissingDependencyError, UnavailableError
from skinedge.publish import doctor
from skinedge.system import requirements

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Return a function that installs a distribution with one module, first on the search path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, version: str, *requires: str, code: str = "") -> None:
        module = requirements.module_of(name)
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n\n")
        if name != requirements.OWN:
            (tmp_path / module).mkdir()
            (tmp_path / module / "__init__.py").write_text(code)
        importlib.invalidate_caches()

    return install


@pytest.fixture
def pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    """The requirements of pyproject.toml, in the form of a wheel's metadata; an editable install may be older."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    for extra, group in project["optional-dependencies"].items():
        for requirement in map(Requirement, group):
            marker = f"({requirement.marker}) and " if requirement.marker else ""
            requirement.marker = None
            texts.append(f"{requirement}; {marker}extra == '{extra}'")
    monkeypatch.setattr(requirements, "declared", lambda: texts)


@pytest.fixture
def linux_arm(pyproject: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine as a Raspberry Pi: the converter of TFLite is not installed, and has no wheel."""
    installed, has_wheel = requirements.installed, requirements.has_wheel
    hidden = {"litert-torch", "ai-edge-quantizer"}
    for module in (requirements, doctor):
        monkeypatch.setattr(module, "installed", lambda name: None if name in hidden else installed(name))
        monkeypatch.setattr(module, "has_wheel", lambda name: has_wheel(name, PLATFORMS["Linux aarch64"]))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")


def failure(module: str, extra: str = "train") -> Exception:
    """Return the error that a command raises when it imports `module`."""
    try:
        exec(f"import {module}" if " " not in module else module)
    except ImportError as error:
        return requirements.import_failure(error, extra)
    raise AssertionError("the import succeeded")


def test_distributions_out_of_range_are_listed_once(put: Put) -> None:
    put("skinedge", "9", "odd-one>=2", "odd-two<3,>=1; extra == 'train'", "odd-three>=1", "odd-four", "absent-odd>=1")
    put("odd-one", "1.9")
    put("odd-two", "3.0.1")
    put("odd-three", "1.0+cpu")
    put("odd-four", "0.1")
    mismatches = [str(mismatch) for mismatch in requirements.outside_range()]
    assert mismatches == ["odd-one 1.9 (skinedge needs >=2)", "odd-two 3.0.1 (skinedge needs <3,>=1)"]
    assert [mismatch.name for mismatch in requirements.outside_range(["odd-two", "odd-four"])] == ["odd-two"]
    findings = {finding.subject: finding for finding in doctor.ranges()}
    assert set(findings) == {"odd-one", "odd-two"}
    assert findings["odd-one"].state == "problem" and "skinedge needs >=2" in findings["odd-one"].detail


def test_require_warns_about_versions_out_of_range(put: Put, capfd: pytest.CaptureFixture[str]) -> None:
    put("skinedge", "9", "odd-one>=2; extra == 'train'")
    put("odd-one", "1.9")
    requirements.require(["odd-one"], "train")
    err = capfd.readouterr().err
    assert "WARNING: odd-one 1.9 (skinedge needs >=2)" in err and "pip install --upgrade " in err and "[train]" in err
    with pytest.raises(MissingDependencyError, match=r"(?s)'odd-none', which is not installed.*\[train\]"):
        requirements.require(["odd-one", "odd-none"], "train")


def test_import_failures_tell_missing_from_incompatible(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "pytorch_grad_cam"]:
        monkeypatch.delitem(sys.modules, module)
    put("skinedge", "9", "old-one>=2; extra == 'train'")
    put("old-one", "1.9")
    put("odd-one", "1.5", code="from old_one import taken_away")
    put("grad-cam", "1.0", code="import pytorch_grad_cam.absent_part")
    missing = failure("absent_odd_one")
    assert isinstance(missing, MissingDependencyError) and "'absent-odd-one', which is not installed" in str(missing)
    for statement, package in (
        ("from odd_one import taken_away", "odd-one 1.5"),
        ("import odd_one.absent_part", "odd-one 1.5"),
        ("import odd_one", "old-one 1.9"),
        ("import pytorch_grad_cam", "grad-cam 1.0"),
    ):
        if "odd_one" in statement and statement != "import odd_one":
            (Path(sys.path[0]) / "odd_one" / "__init__.py").write_text("")
        else:
            (Path(sys.path[0]) / "odd_one" / "__init__.py").write_text("from old_one import taken_away")
        importlib.invalidate_caches()
        sys.modules.pop("odd_one", None)
        error = failure(statement)
        assert isinstance(error, IncompatibleDependencyError), statement
        assert f"the installed {package} does not work here" in str(error) and "not installed" not in str(error)
        assert "Out of range: old-one 1.9 (skinedge needs >=2)" in str(error) and "[train]" in str(error)


def test_missing_module_of_skinedge_is_raised_unchanged() -> None:
    with pytest.raises(ModuleNotFoundError):
        failure("skinedge.absent_part")


def test_command_reports_an_incompatible_distribution(put: Put, tmp_path: Path) -> None:
    """Runs a real command with a timm that lacks a name imported from it."""
    put("timm", "0.1", code="raise ImportError(\"cannot import name 'taken_away' from 'timm'\", name='timm')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from skinedge.cli import main; main()"
    images = tmp_path / "images"
    command = [sys.executable, "-c", code, "train", "--data", str(images), "--out", str(tmp_path / "run")]
    from skinedge.data.synthetic import write_dataset

    write_dataset(images, count=70, size=32, seed=0)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "error: the installed timm 0.1 does not work here: cannot import name 'taken_away'" in done.stderr
    assert "WARNING: timm 0.1 (skinedge needs " in done.stderr and not (tmp_path / "run").exists()


PLATFORMS = {
    "Linux x86-64": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "Linux aarch64": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "macOS, Apple silicon": {"sys_platform": "darwin", "platform_machine": "arm64"},
    "macOS, Intel": {"sys_platform": "darwin", "platform_machine": "x86_64"},
    "Windows x64": {"sys_platform": "win32", "platform_machine": "AMD64"},
    "Windows ARM64": {"sys_platform": "win32", "platform_machine": "ARM64"},
}
LITERT = {"Linux x86-64", "Linux aarch64", "macOS, Apple silicon", "Windows x64"}
CONVERTER = {"Linux x86-64", "macOS, Apple silicon"}


@pytest.mark.parametrize("python", ["3.11", "3.14"])
@pytest.mark.parametrize("place", PLATFORMS)
def test_where_packages_without_wheels_are_left_out(pyproject: None, place: str, python: str) -> None:
    environment = {**PLATFORMS[place], "python_version": python}
    wheels = {name: requirements.has_wheel(name, environment) for name in requirements.INSTEAD}
    assert wheels == {
        "ai-edge-litert": place in LITERT,
        "ai-edge-quantizer": place in CONVERTER,
        "litert-torch": place in CONVERTER,
    }
    assert requirements.has_wheel("numpy", environment) and requirements.has_wheel("torch", environment)
    assert requirements.has_wheel("not-a-dependency", environment)


def test_a_package_without_a_wheel_here_is_no_missing_dependency(linux_arm: None) -> None:
    for module in ("litert_torch.convert", "ai_edge_quantizer"):
        with pytest.raises(
            UnavailableError, match=r"has no wheel for Linux aarch64\nUse --format onnx here; for .tflite"
        ):
            requirements.check_wheels(["timm", module], "export")
    requirements.check_wheels(["timm", "onnxscript"], "export")
    requirements.require(["onnx", "litert-torch"], "export")  # `run` exports ONNX only
    error = requirements.import_failure(ModuleNotFoundError("No module named 'litert_torch'", name="litert_torch"))
    assert isinstance(error, UnavailableError)
    other = requirements.import_failure(ModuleNotFoundError("No module named 'onnx'", name="onnx"))
    assert isinstance(other, MissingDependencyError)
    findings = {finding.subject: finding for finding in doctor.packages()}
    assert findings["litert-torch"].state == "missing"
    assert findings["litert-torch"].detail.startswith("no wheel for this platform. Use --format onnx here")
    assert "pip install" not in findings["ai-edge-quantizer"].detail and findings["onnx"].state == "ok"


def test_distribution_tables_match_pyproject() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    def names(texts: list[str]) -> set[str]:
        return {Requirement(text).name for text in texts}

    extras = project["optional-dependencies"]
    assert set(requirements.RUN) <= names(project["dependencies"])
    assert set(requirements.TRAIN) <= names(extras["train"]) and set(requirements.EXPORT) <= names(extras["export"])
    assert set(requirements.PLOTS) <= names(extras["plots"]) and set(requirements.EXPLAIN) <= names(extras["explain"])


def test_every_direct_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    texts = [text for group in (project["dependencies"], *project["optional-dependencies"].values()) for text in group]
    for requirement in map(Requirement, texts):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert requirement.name == "skinedge" or operators & {">=", "=="}, requirement
