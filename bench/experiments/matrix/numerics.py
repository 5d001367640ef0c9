"""Networks with constant, saturated, nearly constant, zero or huge channels, through training and export."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.matrix import environment
from experiments.matrix.cell import Cell, Plan, nothing_wrong, works_or_gate

BACKBONE, SIDE = "mobilenetv2_035", 64  # a small network with ReLU6
# What a BatchNorm gives on one channel: (factor of its weight, bias). After it, ReLU6 clips at 0 and 6.
CHANNELS = {
    "constant": (0.0, 3.0),
    "saturated at 6": (0.1, 60.0),
    "nearly constant around 6": (3e-4, 5.9996),
    "zero": (0.0, -5.0),
    "huge": (1e4, 0.0),
}
CONFIG = f"""backbone = "{BACKBONE}"
weights = "base.pt"
image_size = {SIDE}
epochs = 1
batch_size = 8
precision = "fp32"
"""
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "isic2018_224" / "train"
SEEDS = 10
WORKS_OR_GATE = works_or_gate(nothing_wrong)  # int8 may cost too much, and must say so


def cells(plan: Plan) -> list[Cell]:
    """Return a cell for each kind of channel, in one layer and in all; and for seeds of the default network."""
    return [] if plan.quick else [*channels(plan), *seeds(plan)]


def channels(plan: Plan) -> Iterator[Cell]:
    """Yield networks with one unusual channel in a drawn layer, or in every one."""
    commands = (
        ("train", "--data", "data", "--config", "config.toml", "--out", "run"),
        *(("export", "run", "--format", name, "--precision", "int8") for name in ("onnx", "tflite")),
        ("verify", "run"),
    )
    for kind in CHANNELS:
        for where in ("one layer", "all layers"):
            seed = plan.rng.randrange(1000)
            prepare = partial(_write, kind, where == "all layers", seed)
            yield Cell(f"{kind}, {where}, seed {seed}", commands, WORKS_OR_GATE, prepare, minutes=15)


def _write(kind: str, everywhere: bool, seed: int, work: Path) -> None:
    import torch

    environment.prepare(work)
    (work / "config.toml").write_text(CONFIG)
    torch.save(base_weights(kind, everywhere, seed).state_dict(), work / "base.pt")


def base_weights(kind: str, everywhere: bool, seed: int) -> Any:
    """Return a network with random weights, statistics of random images, and the unusual channels."""
    import timm
    import torch

    torch.manual_seed(seed)
    net = timm.create_model(BACKBONE, num_classes=2)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # average over all batches
    pixels = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 16, 3, SIDE, SIDE)).astype(np.float32))
    with torch.no_grad():
        for batch in pixels:
            net.train()(torch.nn.functional.avg_pool2d(batch, 5, 1, 2))
        factor, bias = CHANNELS[kind]
        for norm in norms if everywhere else [norms[seed % len(norms)]]:
            channel = seed % norm.num_features
            norm.weight[channel] *= factor
            norm.bias[channel] = bias
    return net.eval()


def seeds(plan: Plan) -> Iterator[Cell]:
    """Yield seeds of the default network on real images."""
    skip = "" if REAL.is_dir() else f"no real images at {REAL}"
    for _ in range(SEEDS):
        seed = plan.rng.randrange(10_000)
        settings = ("--image-size", str(SIDE), "--epochs", "1", "--limit", "280", "--seed", str(seed))
        commands = (
            ("train", "--data", str(REAL), *settings, "--out", "run"),
            ("export", "run", "--format", "tflite", "--int8"),
            ("verify", "run"),
        )
        yield Cell(f"default network, seed {seed}", commands, WORKS_OR_GATE, minutes=15, skip=skip)
