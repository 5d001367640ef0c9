"""Contents of the wheel: with the bundled model, without it, with a damaged one, and with the browser runtime."""

from __future__ import annotations

import email.message
import email.parser
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = ("skinedge", "export", "bench", "README.md", "LICENSE", "pyproject.toml", "hatch_build.py")
FLAGSHIP = "skinedge/flagship"
CODE = "Apache-2.0"

pytest.importorskip("hatchling")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources with a small stand-in for the model."""
    root = tmp_path / "tree"
    for part in PARTS:
        source, target = REPOSITORY / part, root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "flagship", "vendor"))
        else:
            shutil.copyfile(source, target)
    files = {"LICENSE": b"terms", "model.int8.tflite": bytes(1000), "reports/parity.json": b"{}"}
    entries = []
    for name, content in files.items():
        path = root / FLAGSHIP / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        entries.append({"path": name, "sha256": hashlib.sha256(content).hexdigest()})
    write_manifest(root, license="CC-BY-NC-4.0", stages={"ship": {"files": entries}})
    return root


def write_manifest(root: Path, **changes: object) -> None:
    path = root / FLAGSHIP / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**manifest, **changes}))


def build(root: Path, kind: str = "wheel", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(root.parent / "dist")]
    inherited = {key: value for key, value in os.environ.items() if key != "SKINEDGE_WITHOUT_MODEL"}
    return subprocess.run(command, cwd=root, env={**inherited, **environment}, capture_output=True, text=True)


def wheel(root: Path, **environment: str) -> tuple[email.message.Message, dict[str, bytes]]:
    """Build the wheel and return its metadata and files."""
    done = build(root, **environment)
    assert done.returncode == 0, done.stderr
    (path,) = (root.parent / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    (metadata,) = (content for name, content in files.items() if name.endswith(".dist-info/METADATA"))
    return email.parser.BytesParser().parsebytes(metadata), files


def test_the_wheel_contains_the_model_and_both_licences(tree: Path) -> None:
    metadata, files = wheel(tree)
    assert metadata["License-Expression"] == f"{CODE} AND CC-BY-NC-4.0"
    assert metadata.get_all("License-File") == ["LICENSE", f"{FLAGSHIP}/LICENSE"]
    model = {name.removeprefix(f"{FLAGSHIP}/"): content for name, content in files.items() if FLAGSHIP in name}
    model = {name: content for name, content in model.items() if "dist-info" not in name}
    assert model == {
        path.relative_to(tree / FLAGSHIP).as_posix(): path.read_bytes()
        for path in (tree / FLAGSHIP).rglob("*")
        if path.is_file()
    }
    assert "skinedge/core/taxonomy.toml" in files and "skinedge/publish/bundled_model.py" in files


@pytest.mark.parametrize("how", ["variable", "absent"])
def test_a_wheel_without_the_model_is_under_apache_only(tree: Path, how: str) -> None:
    if how == "absent":
        shutil.rmtree(tree / FLAGSHIP)
    metadata, files = wheel(tree, **({"SKINEDGE_WITHOUT_MODEL": "1"} if how == "variable" else {}))
    assert metadata["License-Expression"] == CODE
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert not [name for name in files if "flagship" in name]
    assert "skinedge/publish/bundled_model.py" in files


def test_the_wheel_contains_the_fetched_browser_runtime(tree: Path) -> None:
    page = "skinedge_bench/web/page"
    fetched = tree / "bench" / page / "vendor" / "litert" / "core.js"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"code")
    shutil.copyfile(REPOSITORY / ".gitignore", tree / ".gitignore")  # by default, a wheel omits files that git ignores
    metadata, files = wheel(tree)
    assert metadata["License-Expression"] == f"{CODE} AND MIT AND CC-BY-NC-4.0"
    assert files[f"{page}/vendor/litert/core.js"] == b"code"
    pages = {path.name for path in (REPOSITORY / "bench" / page).iterdir() if path.is_file()}
    assert {name.removeprefix(f"{page}/") for name in files if name.startswith(page) and "vendor" not in name} == pages


@pytest.mark.parametrize("damage", ["no licence", "changed", "missing", "not listed"])
def test_a_wheel_is_not_built_with_an_invalid_model(tree: Path, damage: str) -> None:
    if damage == "no licence":
        write_manifest(tree, license="")
    elif damage == "changed":
        (tree / FLAGSHIP / "model.int8.tflite").write_bytes(bytes(999))
    elif damage == "not listed":
        (tree / FLAGSHIP / "reports" / "patient.jpg").write_bytes(b"image")
    else:
        (tree / FLAGSHIP / "reports" / "parity.json").unlink()
    done = build(tree)
    assert done.returncode != 0 and "SKINEDGE_WITHOUT_MODEL=1" in done.stderr
    assert not list((tree.parent / "dist").glob("*.whl"))


def test_an_sdist_builds_the_same_wheel(tree: Path, tmp_path: Path) -> None:
    done = build(tree, "sdist")
    assert done.returncode == 0, done.stderr
    (archive,) = (tree.parent / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (root,) = (tmp_path / "unpacked").iterdir()
    _, direct = wheel(tree)
    shutil.rmtree(tree.parent / "dist")
    moved = root.rename(tmp_path / "unpacked" / "tree")
    _, from_sdist = wheel(moved)
    assert set(direct) == set(from_sdist)
    assert direct["skinedge/flagship/model.int8.tflite"] == from_sdist["skinedge/flagship/model.int8.tflite"]
