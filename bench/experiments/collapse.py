"""Train a backbone that int8 is known to break, for the precision search: `make collapse ARGS="--backbone NAME"`.

Weights of such backbones would have to be downloaded. So the network is first trained from scratch on the training
part of a split, then adapted with `skinedge train`; `export --int8` then searches its precision.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skinedge.core.errors import SkinedgeError
from skinedge.core.files import write_atomic
from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import Sample, write_split
from skinedge.data.hashing import hash_images
from skinedge.data.loading import load_prepared
from skinedge.data.readers import read
from skinedge.data.split import split
from skinedge.network import model
from skinedge.run.config import AugmentSettings, TrainConfig
from skinedge.system.progress import note
from skinedge.training.augment import augment
from skinedge.training.job import TrainRequest
from skinedge.training.train import train

if TYPE_CHECKING:
    from torch import nn

BATCH = 64
ADAPTING = 16  # epochs of `skinedge train`, after those from scratch
RATE = 2e-3


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.collapse", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/isic2018_224/train"), help="[default: %(default)s]"
    )
    parser.add_argument("--backbone", default="mobilenetv3_small_100", help="a timm name [default: %(default)s]")
    parser.add_argument("--image-size", type=int, default=80, help="input side in pixels [default: %(default)s]")
    parser.add_argument("--epochs", type=int, default=30, help="epochs from scratch [default: %(default)s]")
    parser.add_argument("--out", type=Path, help="run directory [default: runs/collapse-BACKBONE]")
    options = parser.parse_args(arguments)
    out = options.out or Path("runs") / f"collapse-{options.backbone}"
    try:
        prepare_run(options.data, options.backbone, options.image_size, options.epochs, out)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    note(f"next: skinedge export {out} --int8 --data {options.data}")
    return 0


def prepare_run(data: Path, backbone: str, size: int, epochs: int, out: Path) -> None:
    """Train from scratch, then adapt these weights as `skinedge train` does, both on the same split."""
    samples = split(hash_images(read(data)), 0)
    split_csv, weights = out.with_name(f"{out.name}.split.csv"), out.with_name(f"{out.name}.safetensors")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(split_csv, write_split(samples))
    config = TrainConfig(
        backbone=backbone, weights=str(weights), image_size=size, epochs=ADAPTING, split=str(split_csv)
    )
    config = replace(config, optimizer=replace(config.optimizer, learning_rate=1e-3))  # 2e-3 destroys the weights
    from_scratch(data, [sample for sample in samples if sample.split == "train"], config, epochs, weights)
    train(TrainRequest(data, out, config, device="cpu", force=True))


def from_scratch(data: Path, samples: list[Sample], config: TrainConfig, epochs: int, to: Path) -> None:
    """Train all weights and BatchNorm statistics with AdamW, a one-cycle rate and logits adjusted by class frequency.

    Writes the weights to `to` as safetensors.
    """
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional

    names = sorted({sample.label for sample in samples})
    labels = torch.tensor([names.index(sample.label) for sample in samples])
    rule = Preprocess(config.image_size)
    pixels = load_prepared(data, samples, rule)
    prior = torch.from_numpy(np.log(np.bincount(labels.numpy()) / len(labels)).astype(np.float32))
    torch.manual_seed(0)
    network: nn.Module = model.build(config.backbone, len(names)).train().to(memory_format=torch.channels_last)
    steps = epochs * (len(labels) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        total, order = 0.0, torch.randperm(len(labels), generator=generator)
        for indices in order[: len(order) // BATCH * BATCH].split(BATCH):
            images = augment(torch.from_numpy(pixels[indices.numpy()]), AugmentSettings(), generator)
            inputs = model.normalize(images, rule).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(network(inputs) + prior, labels[indices])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        note(f"from scratch: epoch {epoch + 1} of {epochs}, loss {total / (len(order) // BATCH):.3f}")
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, to)


if __name__ == "__main__":
    sys.exit(main())
