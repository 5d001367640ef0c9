"""Inputs that `make fuzz` found to cause a traceback or to be accepted; each must give a certain error."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from skinedge.cli import main

IMAGE = "images/ISIC_0000000.jpg"
PREDICT = ("predict", "images", "--run", "run", "--jobs", "1")
RESUME = (*PREDICT, "--out", "lines.jsonl", "--resume")
DEEP = b"[" * 100_000
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """change: applied to the folder; message: part of the error message; the command must exit with 1."""

    name: str
    argv: tuple[str, ...]
    change: Change
    message: str


def content(path: str, data: bytes) -> Change:
    """Return a change that writes a file."""

    def change(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    return change


def listed(path: str, data: bytes) -> Change:
    """Return a change that writes a file of the run and updates its hash and size in the manifest."""

    def change(folder: Path) -> None:
        content(f"run/{path}", data)(folder)
        manifest = json.loads((folder / "run/manifest.json").read_text())
        for stage in manifest["stages"].values():
            for entry in stage["files"]:
                if entry["path"] == path:
                    entry["sha256"], entry["size"] = hashlib.sha256(data).hexdigest(), len(data)
        (folder / "run/manifest.json").write_text(json.dumps(manifest))

    return change


def replaced(path: str, old: str, new: str) -> Change:
    """Return a change that replaces a text in a file."""

    def change(folder: Path) -> None:
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1))

    return change


def archive(labels: np.ndarray) -> bytes:  # type: ignore[type-arg]
    """Return a MedMNIST archive with these training labels."""
    stream, images = io.BytesIO(), np.zeros((2, 28, 28, 3), np.uint8)
    parts = {
        f"{split}_{kind}": value
        for split in ("val", "test")
        for kind, value in (("images", images), ("labels", np.zeros((2, 1), np.uint8)))
    }
    np.savez(stream, train_images=images, train_labels=labels, **parts)
    return stream.getvalue()


def npy(header: bytes) -> bytes:
    """Return an archive whose array has this header."""
    stream = io.BytesIO()
    import zipfile

    with zipfile.ZipFile(stream, "w") as target:
        target.writestr("train_labels.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    return stream.getvalue()


LABELS = content("med/labels.toml", b'labels = ["a", "b"]')


def both(*changes: Change) -> Change:
    """Return a change that applies several."""

    def apply(folder: Path) -> None:
        for change in changes:
            change(folder)

    return apply


CASES = (
    Case("nested manifest", PREDICT, content("run/manifest.json", DEEP), "manifest.json: "),
    Case(
        "nested card",
        ("predict", IMAGE, "--run", "alone/model.int8.tflite"),
        content("alone/model.int8.tflite.skinedge.json", DEEP),
        "skinedge.json: ",
    ),
    Case(
        "surrogate in a manifest",
        ("report", "run"),
        replaced("run/manifest.json", '"name": "', '"name": "\\ud800'),
        "manifest.json: ",
    ),
    Case("name outside", PREDICT, replaced("run/manifest.json", '"path": "', '"path": "../'), "manifest.json: "),
    Case(
        "nested evaluation",
        ("report", "run", "--evaluation", "evaluation"),
        content("evaluation/evaluation.json", DEEP),
        "evaluation.json: ",
    ),
    Case(
        "nested config",
        ("train", "--data", "images", "--config", "c.toml"),
        content("c.toml", b"seed = " + DEEP),
        "c.toml: ",
    ),
    Case(
        "nested tables",
        ("train", "--data", "images", "--config", "c.toml"),
        content("c.toml", b"seed = " + b"{a = " * 2000),
        "c.toml: ",
    ),
    Case(
        "escape in a key",
        ("train", "--data", "images", "--config", "c.toml"),
        content("c.toml", b'"\\u009b31m" = 1'),
        "c.toml: ",
    ),
    Case(
        "nested labels",
        ("data", "info", "med"),
        both(
            content("med/x.npz", archive(np.zeros((2, 1), np.uint8))), content("med/labels.toml", b"labels = " + DEEP)
        ),
        "labels.toml: ",
    ),
    Case(
        "one number as labels",
        ("data", "info", "med"),
        both(LABELS, content("med/x.npz", archive(np.uint8(1)))),
        "x.npz: ",
    ),
    Case(
        "header without end",
        ("data", "info", "med"),
        both(LABELS, content("med/x.npz", npy(b"{'descr': ('|u1', 'shape': (\n"))),
        "x.npz: ",
    ),
    Case(
        "adapter of texts",
        ("merge", "run", "--data", "images"),
        listed(
            "adapter/adapter_model.safetensors", struct.pack("<Q", 40) + b'{"a": {"dtype": "F32", "shape": ["x"]}}  '
        ),
        "adapter_model.safetensors: ",
    ),
    Case("nested result line", RESUME, content("lines.jsonl", DEEP + b"\n"), "lines.jsonl"),
    Case(
        "result line of another schema",
        RESUME,
        replaced("lines.jsonl", "skinedge.predict/1", "SKINEDGE.PREDICT/1"),
        "lines.jsonl, line 1: is not a prediction",
    ),
    Case(
        "pipe as image",
        ("predict", "pipe.jpg", "--run", "run"),
        lambda folder: os.mkfifo(folder / "pipe.jpg"),
        "could not be judged",
    ),
)


@pytest.fixture(scope="module")
def files(tiny_run: Path, synthetic_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, some of its images, and a model file with its card outside the run."""
    folder = tmp_path_factory.mktemp("cases") / "files"
    shutil.copytree(tiny_run, folder / "run")
    for name in ("images", "alone"):
        (folder / name).mkdir()
    for number, image in enumerate(sorted(synthetic_images.rglob("*.jpg"))[:3]):
        shutil.copy(image, folder / f"images/ISIC_{number:07}.jpg")
    for name in ("model.int8.tflite", "model.int8.tflite.skinedge.json"):
        shutil.copy(folder / "run" / name, folder / "alone" / name)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_gives_an_error_message(
    case: Case, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "files"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    if case.argv == RESUME:
        assert command(monkeypatch, *RESUME[:-1]) == 0
    case.change(folder)
    capfd.readouterr()
    assert command(monkeypatch, *case.argv) == 1
    error = capfd.readouterr().err
    assert case.message in error, error
    assert "Traceback" not in error and "internal error" not in error and "\x1b" not in error and "\x9b" not in error
    assert not list(folder.glob("*crash*"))


def command(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    """Run one command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["skinedge", *argv])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
