"""The two arms of the training benchmark, and the split that both use; each call runs in its own process.

Reads a task as JSON from the command line and prints the measurements as the last line of standard output.
plain: peft and timm in fp32, with a DataLoader of two processes that decodes every JPEG in every epoch.
ours: `skinedge train` unchanged. Both see the same images in the same batches with the same augmentations.
"""

from __future__ import annotations

import hashlib
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.figures import ArmRun
from skinedge.core.errors import SkinedgeError
from skinedge.data.dataset import Sample, load_pixels, read_split, write_split
from skinedge.run.config import TrainConfig, load_config

if TYPE_CHECKING:
    from skinedge.training.train_step import Problem

LOADERS = 2  # decoding processes of the plain arm
Batch = Sequence[int]


@dataclass(frozen=True)
class Task:
    """One process's work.

    arm: 'split', 'plain' or 'ours'; data: folder of images; split: the split.csv of both arms; config: a TOML file, ''
    for the defaults; images: at most this many; size: input side in pixels.
    """

    arm: str
    data: str
    split: str
    config: str = ""
    images: int = 0
    size: int = 0
    seed: int = 0
    epochs: int = 0
    batch: int = 0

    def settings(self) -> TrainConfig:
        """Return the settings of both arms, without LoRA+ and weight averaging, which the plain loop lacks."""
        options = {"image_size": self.size, "seed": self.seed, "epochs": self.epochs, "batch_size": self.batch}
        config = load_config(Path(self.config) if self.config else None).with_options(options)
        optimizer = replace(config.optimizer, lora_plus=1.0, average=0.0)
        return replace(config, optimizer=optimizer, imbalance="logit-adjusted", split=self.split, patience=self.epochs)


def split(task: Task) -> dict[str, Any]:
    """Write the split that `skinedge train` would make, and describe it; the arms use its train and val parts."""
    from skinedge.data import readers
    from skinedge.data import split as splitting
    from skinedge.data.hashing import hash_images

    dataset = splitting.limit(hash_images(readers.read(Path(task.data))), task.images, seed=0)
    samples = splitting.split(dataset, 0)
    Path(task.split).write_text(write_split(samples), encoding="utf-8")
    height, width = load_pixels(dataset.root, samples[0].path).shape[:2]
    counts = {part: sum(sample.split == part for sample in samples) for part in ("train", "val")}
    return {"kind": dataset.kind, **counts, "first_image": f"{width} x {height}"}


def seen_digest(batches: Iterable[Batch], samples: Sequence[Sample]) -> str:
    """Return the sha256 of the image paths of every batch, in order."""
    lines = (" ".join(samples[i].path for i in batch) for batch in batches)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def arm_run(task: Task, started: float, batches: list[Batch], **figures: Any) -> ArmRun:
    """Add the fields that both arms compute alike. started: `time.monotonic` at the start of the arm."""
    import torch

    samples = [sample for sample in read_split(Path(task.split)) if sample.split == "train"]
    return ArmRun(
        arm=task.arm,
        size=task.size,
        seed=task.seed,
        threads=torch.get_num_threads(),
        images=len(samples),
        steps=len(batches),
        seen_sha256=seen_digest(batches, samples),
        setup_seconds=time.monotonic() - started - figures["whole_seconds"],
        peak_rss_mib=peak_mib(resource.RUSAGE_SELF),
        **figures,
    )


def peak_mib(who: int) -> float:
    """Return the peak resident memory so far, in MiB; getrusage counts KiB, on macOS bytes."""
    return resource.getrusage(who).ru_maxrss / (1024.0**2 if sys.platform == "darwin" else 1024.0)


def ours(task: Task) -> ArmRun:
    """Run `skinedge.training.train.train`, timing its cache and its loop."""
    from skinedge.training import train as training
    from skinedge.training import train_step as steps
    from skinedge.training.job import TrainRequest

    started = time.monotonic()
    batches: list[Batch] = []
    seconds = {"build_cache": 0.0, "fit": 0.0}
    for name in seconds:
        setattr(training, name, timed(getattr(training, name), seconds, name))
    batch_indices = steps.batch_indices

    def recorded_indices(problem: Problem, step: int) -> NDArray[np.int64]:
        indices = batch_indices(problem, step)
        batches.append([int(i) for i in indices])
        return indices

    steps.batch_indices = recorded_indices
    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(Path(task.data), Path(folder) / "run", task.settings(), device="cpu")
        bundle = training.train(request)
        history = json.loads((bundle.root / "reports" / "training.json").read_text())["history"]
        images = sum(sample.split == "train" for sample in read_split(bundle.root / "split.csv"))
    return arm_run(
        task,
        started,
        batches,
        precision=bundle.manifest.training["precision"],
        workers_peak_rss_mib=0.0,
        cache_seconds=seconds["build_cache"],
        epoch_seconds=tuple(images / row["images_per_second"] for row in history),
        whole_seconds=seconds["build_cache"] + seconds["fit"],
        val_balanced_accuracy=tuple(row["val_balanced_accuracy"] for row in history),
        train_loss=tuple(row["train_loss"] for row in history),
    )


def timed(function: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    """Wrap `function` so that each call adds its duration to `seconds[name]`."""

    def call(*arguments: Any, **named: Any) -> Any:
        start = time.monotonic()
        try:
            return function(*arguments, **named)
        finally:
            seconds[name] += time.monotonic() - start

    return call


@dataclass(frozen=True)
class Jpegs:
    """A torch map-style dataset: (step, index) -> the step, the prepared pixels (S, S, 3) and the label."""

    root: Path
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    size: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, NDArray[np.uint8], int]:
        from skinedge.core.preprocess import prepare

        step, index = key
        return step, prepare(load_pixels(self.root, self.paths[index]), self.size), int(self.labels[index])


def plain(task: Task) -> ArmRun:
    """Train as peft's image-classification example does, with the settings of the other arm."""
    import torch

    from skinedge.network import lora
    from skinedge.training.train_loop import learning_rate
    from skinedge.training.train_step import batch_indices, class_loss

    started = time.monotonic()
    network, problem, train, val = plain_problem(task)
    config, steps = problem.config, problem.steps_per_epoch
    parameters = [p for p in network.parameters() if p.requires_grad]
    settings = config.optimizer
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    batches: list[Batch] = [[int(i) for i in batch_indices(problem, n)] for n in range(config.epochs * steps)]
    seconds, losses, scores, start = [], [], [], time.monotonic()
    for epoch in range(config.epochs):
        epoch_start, loss_sum = time.monotonic(), 0.0
        lora.train_mode(network)  # BatchNorm stays frozen, as in the other arm
        numbers = range(epoch * steps, (epoch + 1) * steps)
        for number, inputs, targets in loader(train, [(n, batches[n]) for n in numbers], problem, augmented=True):
            loss = class_loss(network(inputs), targets, problem)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(number, problem)
            optimizer.step()
            loss_sum += loss.item() * len(targets)
        seconds.append(time.monotonic() - epoch_start)
        losses.append(loss_sum / len(train))
        scores.append(plain_accuracy(network, val, problem))
    return arm_run(
        task,
        started,
        batches,
        precision="fp32",
        workers_peak_rss_mib=peak_mib(resource.RUSAGE_CHILDREN),
        cache_seconds=0.0,
        epoch_seconds=tuple(seconds),
        whole_seconds=time.monotonic() - start,
        val_balanced_accuracy=tuple(scores),
        train_loss=tuple(losses),
    )


def plain_problem(task: Task) -> tuple[Any, Problem, Jpegs, Jpegs]:
    """Return the network as timm and peft build it, the problem, and the train and val images as files."""
    from skinedge.data.dataset import data_root
    from skinedge.network import lora, model
    from skinedge.training.train_step import Examples, Problem

    config, samples = task.settings(), read_split(Path(task.split))
    names = sorted({sample.label for sample in samples})
    net, base = model.load(config.backbone, len(names), config.weights, config.seed)
    sets, examples = [], []
    for part in ("train", "val"):
        rows = [sample for sample in samples if sample.split == part]
        labels = np.array([names.index(sample.label) for sample in rows], dtype=np.int64)
        sets.append(Jpegs(data_root(Path(task.data)), tuple(sample.path for sample in rows), labels, config.image_size))
        examples.append(Examples(np.empty((0, 0, 0, 3), np.uint8), labels))
    rule = model.preprocess(net, base.source, config.image_size)
    problem = Problem(config, rule, len(names), examples[0], examples[1], "cpu", "fp32")
    return lora.attach(net, config.lora, config.seed), problem, sets[0], sets[1]


def loader(images: Jpegs, batches: Sequence[tuple[int, Batch]], problem: Problem, *, augmented: bool) -> Iterator[Any]:
    """Yield (step, inputs (N, 3, S, S) float32 NCHW, targets (N,)) of each batch, made in the loader's processes.

    Augments whole batches with the step's generator: the same augmentations as in the other arm, and cheaper than
    image by image.
    """
    import torch
    from torch.utils.data import DataLoader

    from skinedge.training.augment import augment
    from skinedge.training.train_step import step_generator

    config, rule = problem.config, problem.preprocess

    def collate(items: list[tuple[int, NDArray[np.uint8], int]]) -> tuple[int, Any, Any]:
        steps, pixels, labels = zip(*items, strict=True)
        batch = torch.from_numpy(np.stack(pixels))
        if augmented:
            values = augment(batch, config.augment, step_generator(config.seed, steps[0]))
        else:
            values = batch.permute(0, 3, 1, 2).float()
        mean, std = (torch.tensor(three).view(3, 1, 1) for three in (rule.mean, rule.std))
        return steps[0], ((values - mean) / std).contiguous(), torch.tensor(labels)

    keys = [[(number, index) for index in batch] for number, batch in batches]
    return iter(DataLoader(images, batch_sampler=keys, num_workers=LOADERS, collate_fn=collate))


def plain_accuracy(network: Any, images: Jpegs, problem: Problem, batch: int = 64) -> float:
    """Return the balanced accuracy on the validation images."""
    import torch

    from skinedge.stats.metrics import balanced_accuracy

    network.eval()
    batches = [(n, range(n * batch, min((n + 1) * batch, len(images)))) for n in range(math.ceil(len(images) / batch))]
    with torch.inference_mode():
        classes = [network(inputs).argmax(dim=1) for _, inputs, _ in loader(images, batches, problem, augmented=False)]
    return balanced_accuracy(images.labels, torch.cat(classes).numpy())


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: python -m experiments.arms TASK (JSON), which experiments.train_speed calls", file=sys.stderr)
        return 2
    task = Task(**json.loads(sys.argv[1]))
    try:
        document = split(task) if task.arm == "split" else asdict({"plain": plain, "ours": ours}[task.arm](task))
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
