"""Shared fixtures: one small trained run, created once per session."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True)  # no time limits; the same cases in every run
settings.load_profile("suite")
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # commands under nohup ignore it
os.environ["SKINEDGE_SHIPPED"] = ""  # tests and their commands ignore a bundled model

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

TINY_CONFIG = """
image_size = 64
epochs = 4
batch_size = 16
precision = "fp32"

[lora]
rank = 4

[optimizer]
average = 0.9
"""


@pytest.fixture(scope="session")
def real_images() -> Path:
    """Return the folder of real, labelled images; skip the test if it is absent."""
    folder = SHARED_DATA / "isic2018_224" / "train"
    if not folder.is_dir():
        pytest.skip(f"real images are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def synthetic_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder of synthetic images in HAM10000's layout: 7 classes, several photos per lesion."""
    from skinedge.data.synthetic import write_dataset

    out = tmp_path_factory.mktemp("data") / "synthetic"
    write_dataset(out, count=140, size=72, seed=3)
    return out


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY_CONFIG)
    return path


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, synthetic_images: Path, tiny_config: Path) -> Path:
    """Create a run with `skinedge train`. Shared: copy it (`copy_run`) before changing anything."""
    from skinedge.run.config import load_config
    from skinedge.training.job import TrainRequest
    from skinedge.training.train import train

    out = tmp_path_factory.mktemp("runs") / "trained"
    train(TrainRequest(synthetic_images, out, load_config(tiny_config), device="cpu"))
    return out


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, trained_run: Path) -> Path:
    """Create a run with the merged model and all four model files. Shared: copy it before changing anything."""
    from skinedge.run.run_directory import Bundle
    from skinedge.training.merge import merge
    from skinedge_export.export import export
    from skinedge_export.target import export_targets

    out = copy_run(trained_run, tmp_path_factory.mktemp("runs") / "tiny")
    export(merge(Bundle.open(out)), export_targets(("onnx", "tflite"), int8=True))
    return out


@pytest.fixture(autouse=True)
def shared_runs_stay_as_they_are(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that changes a shared run, instead of a later test that reads it."""
    names = {"trained_run", "tiny_run"} & set(request.fixturenames)
    manifests = [request.getfixturevalue(name) / "manifest.json" for name in sorted(names)]
    before = [manifest.read_bytes() for manifest in manifests]
    yield
    assert [manifest.read_bytes() for manifest in manifests] == before, f"changed by {request.node.name}: copy it first"


@pytest.fixture(autouse=True)
def remarks_of_one_test() -> None:
    """Forget the remarks on images of earlier tests in this process."""
    from skinedge.core import remarks

    remarks.take()


def copy_run(run: Path, to: Path) -> Path:
    """Copy a shared run to `to`."""
    shutil.copytree(run, to)
    return to
