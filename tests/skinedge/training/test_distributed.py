"""Several processes: they compute what one does, stop together, and go on in another number.

Two processes sum a gradient's float32 numbers in another order than one: what they train may differ by TOLERANCE.
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

TOLERANCE = 3e-5  # largest difference of a trained weight (1.5e-5 on an AVX2 CPU); training moves them by about 1e-2
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
    """Starts `skinedge train --out OUT` in two processes."""

    def start(out: Path, *more: str) -> subprocess.Popen[str]:
        asked = ("--data", str(synthetic_images), "--out", str(out), "--config", str(config_file), "--device", "cpu")
        command = [sys.executable, *TORCHRUN, "-m", "skinedge", "train", *asked, *more]
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
    """A run by two processes, and what they printed."""
    out = tmp_path_factory.mktemp("two") / "run"
    process = launch(out, "--json")
    said, noted = process.communicate(timeout=300)
    assert process.returncode == 0, noted
    return out, (said, noted)


def request(out: Path, images: Path, config_file: Path, *, resume: bool = False) -> TrainRequest:
    return TrainRequest(images, out, load_config(config_file), device="cpu", resume=resume)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def apart(one: Path, other: Path) -> float:
    """Largest difference between two runs' trained weights."""
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine)


def history(run: Path) -> list[dict[str, float]]:
    return json.loads((run / "reports" / "training.json").read_text())["history"]


def test_two_processes_train_what_one_trains(by_one: Path, by_two: tuple[Path, Any]) -> None:
    counts = Bundle.open(by_one).manifest.training["data"]["counts"]
    assert sum(counts["train"].values()) % 16 % 2 and sum(counts["val"].values()) % 2  # nothing divides evenly
    assert apart(by_one, by_two[0]) < TOLERANCE
    for mine, theirs in zip(history(by_one), history(by_two[0]), strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-6)
        assert mine["val_macro_auc"] == theirs["val_macro_auc"]


def test_one_of_two_processes_writes_and_speaks(by_one: Path, by_two: tuple[Path, Any]) -> None:
    out, (said, noted) = by_two
    assert json.loads(said)["run"] == str(out)  # one document, so one process
    assert noted.count("epoch 1/2") == 1 and "Warning" not in noted
    assert [path.name for path in out.parent.iterdir()] == ["run"]
    files = [sorted(p.relative_to(run) for p in run.rglob("*") if p.suffix != ".lock") for run in (out, by_one)]
    assert files[0] == files[1]


def test_a_stop_of_one_process_stops_both_and_any_number_goes_on(
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
    helpers = [child for child in children if child.environ().get("RANK") == "1"]
    helpers[0].terminate()
    _, noted = process.communicate(timeout=300)
    assert process.returncode and "exitcode  : 130" in noted and "cannot be reached" not in noted, noted
    done = torch.load(work / "checkpoint.pt", weights_only=True)["progress"]["step"]
    assert 0 < done < 2 * 7

    shutil.copytree(work, tmp_path / "alone.training")
    alone = train(request(tmp_path / "alone", synthetic_images, config_file, resume=True))
    assert apart(alone.root, by_one) < TOLERANCE
    again = launch(tmp_path / "run", "--resume")
    _, noted = again.communicate(timeout=300)
    assert again.returncode == 0 and f"resuming after step {done}" in noted
    assert apart(tmp_path / "run", by_two[0]) == 0


def test_a_lost_loss_is_said_once_and_ends_both(
    launch: Callable[..., subprocess.Popen[str]], config_file: Path, tmp_path: Path
) -> None:
    wild = tmp_path / "wild.toml"
    wild.write_text(CONFIG + "[optimizer]\nlearning_rate = 1e30\nclip = 1e30\n")
    process = launch(tmp_path / "run", "--config", str(wild))
    _, noted = process.communicate(timeout=300)
    assert process.returncode and "2 processes train together" in noted
    assert noted.count(" became ") == 1 and "at step" in noted, noted
    assert not (tmp_path / "run").exists()


def test_a_refusal_of_the_main_process_leaves_none_waiting(
    launch: Callable[..., subprocess.Popen[str]], by_one: Path
) -> None:
    process = launch(by_one)
    _, noted = process.communicate(timeout=300)
    assert process.returncode and noted.count("output exists") == 1, noted


def test_too_little_for_every_process_is_refused() -> None:
    samples = tuple(Sample(f"{i}", f"{i}.jpg", "nv", split="train") for i in range(3))
    check_shares(samples, TrainConfig(batch_size=3), 3)
    with pytest.raises(ConfigError, match="batch_size 3 is less than one image for each of 4"):
        check_shares(samples, TrainConfig(batch_size=3), 4)
    with pytest.raises(ConfigError, match="3 training images for 4 processes"):
        check_shares(samples, TrainConfig(batch_size=32), 4)


@pytest.mark.parametrize(("total", "count"), [(0, 3), (2, 3), (7, 3), (9, 3), (5, 1)])
def test_the_shares_are_all_rows_once_in_order(total: int, count: int) -> None:
    shares = [list(range(total))[Processes(rank, count).share(total)] for rank in range(count)]
    assert [row for share in shares for row in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_part_of_a_batch_is_augmented_as_within_the_whole() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8))
    whole = augment(images, AugmentSettings(), torch.Generator().manual_seed(7))
    part = augment(images[2:4], AugmentSettings(), draw(5, torch.Generator().manual_seed(7)).rows(slice(2, 4)))
    torch.testing.assert_close(part, whole[2:4], rtol=0, atol=1e-4)


@pytest.fixture
def posed() -> tuple[Any, Problem]:
    """A network and a small problem on drawn noise: 17 images in batches of 8, so the last has one."""
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
    """This process's part of the loss and its gradient, as one vector (zeros where it had no rows)."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = None
    loss, fits = share_gradients(network, problem, step, micro)
    assert fits
    parts = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained]
    return loss, torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("step", [0, 2])  # a whole batch, and the last one with one image
@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_of_the_processes_gradients_is_the_batchs(posed: tuple[Any, Problem], step: int, count: int) -> None:
    network, problem = posed
    loss, whole = gradients(network, problem, step)
    several = [
        gradients(network, replace(problem, processes=Processes(rank, count)), step, micro=2) for rank in range(count)
    ]
    assert sum(part for part, _ in several) == pytest.approx(loss, rel=1e-5)
    mean = torch.stack([gradient for _, gradient in several]).mean(dim=0)
    assert float(whole.abs().max()) > 1e-3
    torch.testing.assert_close(mean, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))


def hold(network: Any, most: int) -> None:
    """Let the network run out of memory as a GPU does, with more than `most` images at a time."""

    def refuse(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    network.register_forward_pre_hook(refuse)


def test_out_of_memory_halves_what_goes_through_at_once_and_not_the_batch(
    posed: tuple[Any, Problem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, problem = posed
    trained = [p for p in network.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in trained]

    def result(name: str) -> tuple[torch.Tensor, Any]:
        for parameter, value in zip(trained, start, strict=True):
            parameter.data.copy_(value)
        (tmp_path / name).mkdir()
        progress = fit(network, problem, Checkpoints(tmp_path / name, "job"))
        return torch.cat([p.detach().flatten() for p in trained]), progress

    plain, unlimited = result("plain")
    assert unlimited.micro_batch is None and "memory" not in capsys.readouterr().err
    hold(network, 3)
    halved, limited = result("halved")
    assert limited.micro_batch == 2 and limited.step == unlimited.step == 3
    assert capsys.readouterr().err.count("out of memory") == 2  # 8, then 4
    assert limited.history[0]["train_loss"] == pytest.approx(unlimited.history[0]["train_loss"], rel=1e-5)
    assert float((plain - torch.cat([p.flatten() for p in start])).abs().max()) > 100 * TOLERANCE
    assert float((halved - plain).abs().max()) < TOLERANCE


def test_one_image_too_many_for_the_memory_stops(posed: tuple[Any, Problem], tmp_path: Path) -> None:
    network, problem = posed
    hold(network, 0)
    with pytest.raises(SkinedgeError, match="does not hold one image of 32 px"):
        fit(network, problem, Checkpoints(tmp_path, "job"))


def test_alone_nothing_is_shared() -> None:
    rows = np.arange(3)
    assert ALONE.gather(rows) is rows and ALONE.sum(0.1, 2) == (0.1, 2) and ALONE.wrap(rows) is rows
    with pytest.raises(ConfigError, match="mine"):
        ALONE.give_up(ConfigError("mine"))
