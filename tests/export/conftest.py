"""A small run without training, whose network still predicts well: random features, fitted head."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.preprocess import Preprocess, prepare
from skinedge.data.dataset import Sample, write_split
from skinedge.data.licensing import HAM10000, NON_COMMERCIAL
from skinedge.data.synthetic import LABELS, draw
from skinedge.network import model
from skinedge.run import golden
from skinedge.run.manifest import Manifest, new_id, now
from skinedge.run.run_directory import Bundle
from skinedge.training import merge

SIZE = 64
RULE = Preprocess(SIZE)
BACKBONE = "test_resnet"
COUNTS = {"train": 8, "val": 6, "cal": 3, "test": 1}


def write_images(root: Path) -> list[Sample]:
    root.mkdir()
    samples = []
    for label_index, label in enumerate(LABELS):
        splits = [split for split, count in COUNTS.items() for _ in range(count)]
        for index, split in enumerate(splits):
            path = root / f"{label}_{index}.png"
            Image.fromarray(tinted(draw(index, label_index, SIZE + 8, SIZE + 20), label_index)).save(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            samples.append(Sample(path.stem, path.name, label, "", split, digest))
    return samples


def tinted(pixels, label_index: int):
    """Give each class a colour cast, which even random features can distinguish."""
    cast = np.array([(label_index >> bit & 1) * 0.7 + 0.3 for bit in range(3)])
    return (pixels * cast).astype(np.uint8)


def fit_head(net, pixels, labels) -> None:
    """Fit the head by least squares on the random features: clear, reproducible predictions in a second."""
    import torch

    mean, std = torch.tensor(RULE.mean)[:, None, None], torch.tensor(RULE.std)[:, None, None]
    with torch.no_grad():
        images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - mean) / std
        features = net.forward_head(net.forward_features(images), pre_logits=True).double()
        centre = features.mean(0)
        normal = features - centre
        target = torch.nn.functional.one_hot(torch.from_numpy(labels), len(LABELS)).double() * 10
        gram = normal.T @ normal
        gram += 1e-3 * gram.trace() / len(gram) * torch.eye(len(gram), dtype=torch.float64)
        weight = torch.linalg.solve(gram, normal.T @ target).T
        head = net.get_classifier()
        head.weight.copy_(weight)
        head.bias.copy_(target.mean(0) - weight @ centre)


def build_network(samples: list[Sample], root: Path):
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = model.build(BACKBONE, len(LABELS))
    for name, tensor in net.named_parameters():  # residual branches start at zero: a converter drops them
        if name.startswith("layer") and name.endswith(("bn2.weight", "bn3.weight")):
            torch.nn.init.ones_(tensor)
    pixels = np.stack([prepare(np.asarray(Image.open(root / s.path)), SIZE) for s in samples])
    fit_head(net, pixels, np.array([LABELS.index(s.label) for s in samples]))
    return net


def manifest(data_root: Path) -> Manifest:
    return Manifest(
        id=new_id(),
        name="hand-made",
        created_at=now(),
        synthetic=True,
        domain="synthetic",
        labels=tuple(LABELS),
        taxonomy={label: "malignant" if label in ("mel", "bcc", "akiec") else "benign" for label in LABELS},
        melanoma="mel",
        preprocess=RULE,
        class_prior={label: 1 / len(LABELS) for label in LABELS},
        data_root=str(data_root),
        training={
            "backbone": BACKBONE,
            "base_weights": {"source": "random 5", "sha256": "0" * 64},
            "config": {"weights": "random", "seed": 5},
            "data": {
                "kind": "class folders",
                "counts": {split: dict.fromkeys(LABELS, n) for split, n in COUNTS.items()},
                "training_prior": {label: 1 / len(LABELS) for label in LABELS},
            },
        },
        license=NON_COMMERCIAL,
        attribution=HAM10000,
    )


def write_run(root: Path, samples: list[Sample], data_root: Path, net) -> Bundle:
    """Write a run as train and merge do; the adapter is a placeholder, since only its hash is read."""
    root.mkdir()
    bundle = Bundle.create(root, manifest(data_root))
    with bundle.stage("train", "test", {}) as stage:
        stage.path("split.csv").write_text(write_split(tuple(samples)))
        for name in merge.ADAPTER:
            stage.path(name).write_bytes(b"stand-in")
    bundle = bundle.reload()
    pixels, sources = golden.draw_golden(SIZE)
    with bundle.stage("merge", "test", merge.merge_inputs(bundle)) as stage:
        merge.save_network(stage.path("model.safetensors"), net, bundle.manifest)
        logits = merge.eager_logits(net, pixels, RULE)
        golden.save(stage.path("golden.npz"), golden.Golden(pixels, sources, logits))
        test = [sample for sample in samples if sample.split == "test"]
        with stage.path("reference.npz").open("wb") as stream:
            labels = np.array([LABELS.index(sample.label) for sample in test], dtype=np.int64)
            test_logits = merge.sample_logits(net, data_root, test, RULE, len(LABELS))
            np.savez(stream, id=np.array([sample.image_id for sample in test]), label=labels, logits=test_logits)
    return bundle.reload()


@pytest.fixture(scope="session")
def merged_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged run, nothing exported. Shared: copy it before changing anything."""
    base = tmp_path_factory.mktemp("export")
    samples = write_images(base / "images")
    net = build_network(samples, base / "images")
    return write_run(base / "run", samples, base / "images", net).root


@pytest.fixture(scope="session")
def exported_run(merged_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merged run with its four model files. Shared: copy it before changing anything."""
    from skinedge_export.export import export
    from skinedge_export.target import export_targets

    root = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(merged_run, root)
    export(Bundle.open(root), export_targets(("onnx", "tflite"), int8=True))
    return root


@pytest.fixture
def run_copy(exported_run: Path, tmp_path: Path) -> Bundle:
    """A private copy of the exported run."""
    shutil.copytree(exported_run, tmp_path / "run")
    return Bundle.open(tmp_path / "run")
