"""End-to-end latency: the prediction of `predict`, parts that add up, described images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skinedge.core.errors import DataError
from skinedge.core.image_file import load_image
from skinedge.run.run_directory import Bundle
from skinedge_bench.latency.end_to_end import COUNT, Chain, Photos, photos_of_run, synthetic_photos, time_chains
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.targets import STANDARD, run_targets
from skinedge_bench.split_images import Located
from skinedge_bench.split_images import test_split as samples_of

Cli = Callable[..., tuple[int, str, str]]


def chain_of(bundle: Bundle, name: str, photos: Photos) -> Chain:
    manifest, targets = bundle.manifest, run_targets(bundle, STANDARD)
    target = next(target for target in targets if target.name == name)
    session = target.runtime.open(target.path, 1)
    return Chain(session, manifest.preprocess.size, replace(photos, malignant=manifest.malignant), target)


def test_a_chain_predicts_like_predict(tiny_run: Path, cli: Cli) -> None:
    bundle = Bundle.open(tiny_run)
    root, samples = Path(bundle.manifest.data_root), samples_of(bundle)
    images = photos_of_run(Located(root, samples))
    assert images is not None
    chain = chain_of(bundle, "model.int8.tflite", images)
    documents = [chain(index) for index in range(len(images.encoded))]
    paths = [root / sample.path for sample in samples if (root / sample.path).read_bytes() in images.encoded]
    _, out, _ = cli("predict", *paths, "--run", tiny_run, "--file", "model.int8.tflite", "--json")
    by_bytes = {Path(line["image"]).read_bytes(): line for line in map(json.loads, out.splitlines())}
    for data, document in zip(images.encoded, documents, strict=True):
        expected = by_bytes[data]
        assert document["label"] == expected["label"]
        assert document["probabilities"] == pytest.approx(expected["probabilities"])
        assert document["malignant_probability"] == pytest.approx(expected["malignant_probability"])


def test_parts_add_up(tiny_run: Path) -> None:
    bundle = Bundle.open(tiny_run)
    images = synthetic_photos()
    names = ("model.int8.tflite", "model.fp32.onnx")
    plan = Protocol("test", warmup=3, block=20, blocks=8, min_seconds=0.0)
    chains = {name: chain_of(bundle, name, images) for name in names}
    latencies = time_chains(chains, plan, seed=1)
    for name in names:
        latency = latencies[name]
        assert latency.n == 100 and len(chains[name].parts_ms) == 3 + 5 * 22  # warm-up; 5 blocks of 2 and 20
        assert list(latency.parts_ms) == ["decode", "resize", "infer", "label"] and min(latency.parts_ms.values()) > 0
        assert sum(latency.shares.values()) == pytest.approx(1)
        assert latency.p50_interval_ms is not None and latency.p50_interval_ms[0] <= latency.p50_interval_ms[1]
        totals_ms = np.array(chains[name].parts_ms).sum(axis=1)
        assert totals_ms.min() <= latency.p50_ms <= latency.p90_ms <= totals_ms.max() * 1.5


def test_synthetic_photos_match_their_description() -> None:
    images = synthetic_photos()
    assert images == synthetic_photos() and len(images.encoded) == images.source.n == COUNT
    assert all(data.startswith(b"\xff\xd8") and load_image(data).shape == (450, 600, 3) for data in images.encoded)
    assert (images.source.width, images.source.height) == (600, 450)
    assert images.source.size_bytes == int(np.median([len(data) for data in images.encoded]))
    assert "synthetic images as JPEG" in str(images.source) and "600 x 450" in str(images.source)


def test_photos_of_a_run(tiny_run: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_run)
    root, samples = Path(bundle.manifest.data_root), samples_of(bundle)
    images = photos_of_run(Located(root, samples))
    assert images is not None and images.source.n == min(COUNT, len(samples))
    assert set(images.encoded) <= {(root / sample.path).read_bytes() for sample in samples}
    assert photos_of_run(Located(root, ())) is None
    (tmp_path / samples[0].path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / samples[0].path).write_bytes(b"no image")
    with pytest.raises(DataError, match="not an image"):
        photos_of_run(Located(tmp_path, samples[:1]))
