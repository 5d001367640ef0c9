"""Distributed training: the same result as one process, stopping together, resuming with another number of processes.

Two processes sum the float32 gradients in another order than one, so their weights may differ by TOLERANCE.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.data.dataset import Sample
from skinedge.network import model
from skinedge.run.config import AugmentSettings, TrainConfig, load_config
from skinedge.run.run_directory import Bundle
from skinedge.training.augment import augment, draw
from skinedge.training.checkpoint import Checkpoints
from skinedge.training.distributed import ALONE, Processes
from skinedge.training.job import TrainRequest, build_network, check_shares
from skinedge.training.train import train
from skinedge.training.train_loop import fit
from skinedge.training.train_step import Examples, Problem, share_gradients

TOLERANCE = 3e-5  # between trained weights (1.5e-5 on an AVX2 CPU); training changes them by about 1e-2
CONFIG = """
backbone = "test_efficientnet"
weights = "random"
image_size = 64
epochs = 2
batch_size = 16
precision = "fp32"
checkpoint_minutes = 0.0
[lora]
rank_stabilized = true
dora = true
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def launch(synthetic_images: Path, config_file: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts `skinedge train --out OUT` in two processes."""

    def start(out: Path, *options: str) -> subprocess.Popen[str]:
        arguments = (
            "--data",
            str(synthetic_images),
            "--out",
            str(out),
            "--config",
            str(config_file),
            "--device",
            "cpu",
        )
        command = [sys.executable, *TORCHRUN, "-m", "skinedge", "train", *arguments, *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=Path.cwd()
        )

    return start


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory, synthetic_images: Path, config_file: Path) -> Path:
    return train(request(tmp_path_factory.mktemp("one") / "run", synthetic_images, config_file)).root


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory, launch: Callable[..., subprocess.Popen[str]]) -> tuple[Path, Any]:
    """A run by two processes, with their (stdout, stderr)."""
    out = tmp_path_factory.mktemp("two") / "run"
    process = launch(out, "--json")
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return out, (stdout, stderr)


def request(out: Path, images: Path, config_file: Path, *, resume: bool = False) -> TrainRequest:
    return TrainRequest(images, out, load_config(config_file), device="cpu", resume=resume)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def largest_difference(run: Path, other: Path) -> float:
    """Return the largest difference between two runs' trained weights."""
    tensors, others = weights(run), weights(other)
    assert tensors.keys() == others.keys()
    return max(float((tensors[name] - others[name]).abs().max()) for name in tensors)


def history(run: Path) -> list[dict[str, float]]:
    return json.loads((run / "reports" / "training.json").read_text())["history"]


def test_two_processes_train_the_same_weights_as_one(by_one: Path, by_two: tuple[Path, Any]) -> None:
    counts = Bundle.open(by_one).manifest.training["data"]["counts"]
    assert sum(counts["train"].values()) % 16 % 2 and sum(counts["val"].values()) % 2  # nothing divides evenly
    assert largest_difference(by_one, by_two[0]) < TOLERANCE
    for row, other in zip(history(by_one), history(by_two[0]), strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)
        assert row["val_macro_auc"] == other["val_macro_auc"]


def test_only_the_main_process_writes_and_prints(by_one: Path, by_two: tuple[Path, Any]) -> None:
    out, (stdout, stderr) = by_two
    assert json.loads(stdout)["run"] == str(out)  # one document, so one process
    assert stderr.count("epoch 1/2") == 1 and "Warning" not in stderr
    assert [path.name for path in out.parent.iterdir()] == ["run"]
    files = [sorted(p.relative_to(run) for p in run.rglob("*") if p.suffix != ".lock") for run in (out, by_one)]
    assert files[0] == files[1]


def test_stopping_one_process_stops_both_and_any_number_can_resume(
    launch: Callable[..., subprocess.Popen[str]],
    by_one: Path,
    by_two: tuple[Path, Any],
    synthetic_images: Path,
    config_file: Path,
    tmp_path: Path,
) -> None:
    work = tmp_path / "run.training"
    process = launch(tmp_path / "run")
    while not (work / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children()
    others = [child for child in children if child.environ().get("RANK") == "1"]
    others[0].terminate()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode and "exitcode  : 130" in stderr and "cannot be reached" not in stderr, stderr
    done = torch.load(work / "checkpoint.pt", weights_only=True)["progress"]["step"]
    assert 0 < done < 2 * 7

    shutil.copytree(work, tmp_path / "single.training")
    single = train(request(tmp_path / "single", synthetic_images, config_file, resume=True))
    assert largest_difference(single.root, by_one) < TOLERANCE
    resumed = launch(tmp_path / "run", "--resume")
    _, stderr = resumed.communicate(timeout=300)
    assert resumed.returncode == 0 and f"resuming after step {done}" in stderr
    assert largest_difference(tmp_path / "run", by_two[0]) == 0


def test_a_diverging_loss_is_reported_once_and_ends_both(
    launch: Callable[..., subprocess.Popen[str]], config_file: Path, tmp_path: Path
) -> None:
    diverging = tmp_path / "diverging.toml"
    diverging.write_text(CONFIG + "[optimizer]\nlearning_rate = 1e30\nclip = 1e30\n")
    process = launch(tmp_path / "run", "--config", str(diverging))
    _, stderr = process.communicate(timeout=300)
    assert process.returncode and "2 processes train together" in stderr
    assert stderr.count(" became ") == 1 and "at step" in stderr, stderr
    assert not (tmp_path / "run").exists()


def test_an_error_in_the_main_process_ends_the_others(
    launch: Callable[..., subprocess.Popen[str]], by_one: Path
) -> None:
    process = launch(by_one)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode and stderr.count("output exists") == 1, stderr


def test_fewer_images_than_processes_are_refused() -> None:
    samples = tuple(Sample(f"{i}", f"{i}.jpg", "nv", split="train") for i in range(3))
    check_shares(samples, TrainConfig(batch_size=3), 3)
    with pytest.raises(ConfigError, match="batch_size 3 is less than one image for each of 4"):
        check_shares(samples, TrainConfig(batch_size=3), 4)
    with pytest.raises(ConfigError, match="3 training images for 4 processes"):
        check_shares(samples, TrainConfig(batch_size=32), 4)


@pytest.mark.parametrize(("total", "count"), [(0, 3), (2, 3), (7, 3), (9, 3), (5, 1)])
def test_the_shares_cover_all_rows_once_in_order(total: int, count: int) -> None:
    shares = [list(range(total))[Processes(rank, count).share(total)] for rank in range(count)]
    assert [row for share in shares for row in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_part_of_a_batch_is_augmented_as_in_the_full_batch() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
    full = augment(images, AugmentSettings(), torch.Generator().manual_seed(7))
    part = augment(images[2:4], AugmentSettings(), draw(5, torch.Generator().manual_seed(7)).rows(slice(2, 4)))
    torch.testing.assert_close(part, full[2:4], rtol=0, atol=1e-4)


@pytest.fixture
def network_and_problem() -> tuple[Any, Problem]:
    """A network and a small problem on random noise: 17 images in batches of 8, so the last batch has one."""
    config = TrainConfig(
        backbone="test_efficientnet", weights="random", image_size=32, epochs=1, batch_size=8, precision="fp32"
    )
    generator = np.random.default_rng(1)

    def noise(count: int) -> Examples:
        pixels = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return Examples(pixels, np.arange(count, dtype=np.int64) % 3)

    net, base = model.load(config.backbone, 3, "random", 0)
    rule = model.preprocess(net, base.source, 32)
    torch.nn.init.normal_(net.get_classifier().weight, generator=torch.Generator().manual_seed(0))
    network = build_network(net, config, "cpu")
    return network, Problem(config, rule, 3, noise(17), noise(6), "cpu", "fp32")


def gradients(network: Any, problem: Problem, step: int, micro: int = 8) -> tuple[float, torch.Tensor]:
    """Return this process's share of the loss and its gradient as one vector (zeros without rows)."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.grad = None
    loss, fits = share_gradients(network, problem, step, micro)
    assert fits
    parts = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trainable]
    return loss, torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("step", [0, 2])  # a full batch, and the last batch with one image
@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_gradient_of_the_processes_is_that_of_the_batch(
    network_and_problem: tuple[Any, Problem], step: int, count: int
) -> None:
    network, problem = network_and_problem
    loss, full = gradients(network, problem, step)
    shares = [
        gradients(network, replace(problem, processes=Processes(rank, count)), step, micro=2) for rank in range(count)
    ]
    assert sum(share for share, _ in shares) == pytest.approx(loss, rel=1e-5)
    mean = torch.stack([gradient for _, gradient in shares]).mean(dim=0)
    assert float(full.abs().max()) > 1e-3
    torch.testing.assert_close(mean, full, rtol=1e-4, atol=1e-5 * float(full.abs().max()))


def limit_memory(network: Any, images: int) -> None:
    """Make the network raise out-of-memory errors as on a GPU, for inputs of more than `images` images."""

    def refuse(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > images:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    network.register_forward_pre_hook(refuse)


def test_out_of_memory_halves_the_micro_batch_and_not_the_batch(
    network_and_problem: tuple[Any, Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, problem = network_and_problem
    trainable = [p for p in network.parameters() if p.requires_grad]
    initial = [p.detach().clone() for p in trainable]

    def result(name: str) -> tuple[torch.Tensor, Any]:
        for parameter, value in zip(trainable, initial, strict=True):
            parameter.data.copy_(value)
        (tmp_path / name).mkdir()
        progress = fit(network, problem, Checkpoints(tmp_path / name, "job"))
        return torch.cat([p.detach().flatten() for p in trainable]), progress

    plain, unlimited = result("plain")
    assert unlimited.micro_batch is None and "memory" not in capsys.readouterr().err
    limit_memory(network, 3)
    halved, limited = result("halved")
    assert limited.micro_batch == 2 and limited.step == unlimited.step == 3
    assert capsys.readouterr().err.count("out of memory") == 2  # 8, then 4
    assert limited.history[0]["train_loss"] == pytest.approx(unlimited.history[0]["train_loss"], rel=1e-5)
    assert float((plain - torch.cat([p.flatten() for p in initial])).abs().max()) > 100 * TOLERANCE
    assert float((halved - plain).abs().max()) < TOLERANCE


def test_one_image_beyond_the_memory_is_an_error(network_and_problem: tuple[Any, Problem], tmp_path: Path) -> None:
    network, problem = network_and_problem
    limit_memory(network, 0)
    with pytest.raises(SkinedgeError, match="a single image of 32 px does not fit"):
        fit(network, problem, Checkpoints(tmp_path, "job"))


def test_a_single_process_returns_its_own_values() -> None:
    rows = np.arange(3)
    assert ALONE.gather(rows) is rows and ALONE.sum(0.1, 2) == (0.1, 2) and ALONE.wrap(rows) is rows
    with pytest.raises(ConfigError, match="mine"):
        ALONE.fail(ConfigError("mine"))
