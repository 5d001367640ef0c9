"""The files to mutate: a small trained run and the commands' outputs from it, built once and cached."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

TINTS = {"mel": (150, 90, 60), "nv": (60, 110, 160), "bcc": (100, 160, 60)}
CONFIG = """
backbone = "test_efficientnet"
weights = "random"
image_size = 32
epochs = 10
batch_size = 8
patience = 12
precision = "fp32"
license = "CC-BY-NC-4.0"
[lora]
rank = 8
[optimizer]
learning_rate = 0.02
average = 0.9
"""
RUN = "runs/tiny"
IMAGE = "data/few/mel/ISIC_0000000.jpg"
SECONDS = 1800  # timeout of one command


def ready(folder: Path) -> Path:
    """Build the fixture in `folder`, unless it is complete; return the folder."""
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        write_images(folder)
        (folder / "config.toml").write_text(CONFIG)
        skinedge(folder, "run", "--data", "data/ham", "--out", RUN, "--config", "config.toml")
        derive(folder)
        unfinished(folder)
        (folder / "complete").touch()
    return folder


def of_run(run: Path, folder: Path) -> Path:
    """Build a fixture around an existing run, without an evaluation, a packaged model or an unfinished training."""
    write_images(folder)
    (folder / "config.toml").write_text(CONFIG)
    shutil.copytree(run, folder / RUN)
    results(folder)
    return folder


def derive(folder: Path) -> None:
    """Write outputs of the commands for a finished run: evaluation, packaged model, result lines, standalone files."""
    results(folder)
    skinedge(folder, "evaluate", RUN, "--data", "data/ham", "--split", "test", "--out", "evaluation", "--jobs", "1")
    skinedge(folder, "ship", RUN, "--to", "shipped", "--evaluation", "evaluation")


def results(folder: Path) -> None:
    """Write result lines of `predict --out`, and model files without their run."""
    skinedge(folder, "predict", "data/few", "--run", RUN, "--jobs", "1", "--out", "results.jsonl")
    (folder / "alone").mkdir()
    for name in ("model.int8.tflite", "model.int8.tflite.skinedge.json", "model.fp32.onnx", "model.safetensors"):
        if (folder / RUN / name).is_file():
            shutil.copy(folder / RUN / name, folder / "alone" / name)


def unfinished(folder: Path) -> None:
    """Start a training and kill it after its first checkpoint."""
    command = [sys.executable, "-m", "skinedge", "train", "--data", "data/ham", "--config", "config.toml"]
    training = subprocess.Popen([*command, "--out", "runs/unfinished"], cwd=folder, env=environment())
    deadline = time.monotonic() + SECONDS
    while not list((folder / "runs").glob("unfinished*/checkpoint.pt")):
        if training.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the training left no checkpoint to resume from")
        time.sleep(0.02)
    training.send_signal(signal.SIGKILL)
    training.wait()


def write_images(folder: Path) -> None:
    """Write images of three tinted classes in the layouts of HAM10000, class folders, ISIC challenge and MedMNIST."""
    rng = np.random.default_rng(1)
    labels = [list(TINTS)[index % 3] for index in range(120)]
    for name in ("ham", "isic", "med", *(f"few/{label}" for label in TINTS)):
        (folder / "data" / name).mkdir(parents=True)
    arrays = []
    for index, label in enumerate(labels):
        blobs = rng.normal(TINTS[label], 25, (6, 6, 3)).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(blobs).resize((48, 48), Image.Resampling.BICUBIC)
        picture.save(folder / f"data/ham/ISIC_{index:07}.jpg", quality=90)
        arrays.append(np.asarray(picture.resize((28, 28))))
        if index < 9:
            picture.save(folder / f"data/few/{label}/ISIC_{index:07}.jpg", quality=90)
            picture.save(folder / f"data/isic/ISIC_{index:07}.jpg", quality=90)
    write_tables(folder / "data", labels)
    parts = {"train": slice(0, 30), "val": slice(30, 45), "test": slice(45, 60)}
    numbers = np.array([[list(TINTS).index(label)] for label in labels], dtype=np.uint8)
    images = {f"{split}_images": np.stack(arrays[rows]) for split, rows in parts.items()}
    truth = {f"{split}_labels": numbers[rows] for split, rows in parts.items()}
    np.savez_compressed(folder / "data/med/tinted.npz", **images, **truth)
    (folder / "data/med/labels.toml").write_text('labels = ["melanoma", "nevus", "basal cell carcinoma"]\n')


def write_tables(data: Path, labels: list[str]) -> None:
    """Write HAM10000's metadata, and a one-hot table of the first nine images."""
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for index, label in enumerate(labels):
        lesion, sex = f"HAM_{index // 6:04}{label}", ("male", "female")[index % 2]
        lines.append(f"{lesion},ISIC_{index:07},{label},histo,{30 + index % 50},{sex},back")
    (data / "ham/HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    names = {"MEL": "mel", "NV": "nv", "BCC": "bcc"}
    rows = [f"image,{','.join(names)}"]
    for index, label in enumerate(labels[:9]):
        rows.append(f"ISIC_{index:07}," + ",".join(f"{float(label == own)}" for own in names.values()))
    (data / "isic/truth.csv").write_text("\n".join(rows) + "\n")


def skinedge(folder: Path, *arguments: str) -> None:
    """Run one command in the fixture. Raises: RuntimeError when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "skinedge", *arguments],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the fixture's `skinedge {' '.join(arguments)}` failed: {done.stderr.strip()}")


def environment() -> dict[str, str]:
    """Return the environment of the commands, without the shipped model."""
    return {**os.environ, "SKINEDGE_SHIPPED": ""}
