"""The GPU path without a GPU: simulated CUDA tensors, which know their device and shape but have no values.

`make gpu-check` runs the rest where a GPU is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from skinedge.core.errors import ConfigError
from skinedge.core.preprocess import Preprocess
from skinedge.network import fused, lora, model
from skinedge.run.config import AugmentSettings, TrainConfig
from skinedge.training import device, distributed, job, train_loop, train_step
from skinedge.training.augment import augment, draw
from skinedge.training.device import choose_device, choose_precision
from skinedge.training.teacher import Teacher
from skinedge.training.train_step import Examples, Problem, halved, load_batch, share_gradients

CONFIG = TrainConfig(backbone="test_efficientnet", weights="random", image_size=32, epochs=1, batch_size=8)
RULE = Preprocess(32)


def examples(count: int) -> Examples:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Examples(pixels, np.arange(count, dtype=np.int64) % 3)


def backward(loss: torch.Tensor) -> None:
    """Check the loss; PyTorch's own backward asks the driver for the device."""
    assert (loss.device.type, loss.dtype, loss.shape, loss.requires_grad) == ("cuda", torch.float32, (), True)


Build = Callable[..., tuple[nn.Module, Problem]]


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Return a function that builds a network as training on a GPU does, and a problem of 17 images in batches of 8.

    From then on, tensors moved to 'cuda' are simulated, and an operation on both CUDA and CPU tensors is an error.
    """
    with ExitStack() as stack:

        def build(config: TrainConfig = CONFIG) -> tuple[nn.Module, Problem]:
            network = lora.channels_last(lora.attach(model.load(config.backbone, 3, "random", 0)[0], config.lora, 0))
            monkeypatch.setattr(lora, "attach", lambda *_: network)
            monkeypatch.setattr(lora, "channels_last", lambda network: network)  # simulated parameters move once only
            monkeypatch.setattr(train_step, "float", lambda value: 0.0, raising=False)  # there is no value to read
            monkeypatch.setattr(torch.Tensor, "backward", backward)
            monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
            monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
            monkeypatch.setattr(fused, "is_close", lambda features, expected: True)
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            problem = Problem(config, RULE, 3, examples(17), examples(6), "cuda", "bf16")
            return job.build_network(None, config, "cuda"), problem

        yield build


def test_the_simulation_finds_a_tensor_left_on_the_cpu(on_gpu: Build) -> None:
    """Else the tests below would prove nothing."""
    on_gpu()
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2).to("cuda") + torch.ones(2)


@pytest.mark.parametrize(
    ("imbalance", "step"), [("logit-adjusted", 0), ("focal", 0), ("balanced-sampling", 2)]
)  # step 2: the last batch, with a single image
def test_every_tensor_of_a_training_step_is_on_the_gpu(on_gpu: Build, imbalance: str, step: int) -> None:
    network, problem = on_gpu(replace(CONFIG, imbalance=imbalance))
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"cuda"}
    loss, fits = share_gradients(network, problem, step, micro=4)
    assert (loss, fits) == (0.0, True)


@pytest.mark.parametrize("size", [32, 24])
def test_the_teacher_runs_on_the_gpu(on_gpu: Build, size: int) -> None:
    """Also a teacher with another image size, for which the images are resized."""
    network_of_teacher = model.build(CONFIG.backbone, 3)
    network, problem = on_gpu()
    teacher = Teacher(network_of_teacher.to("cuda"), Preprocess(size), np.ones(3, np.float32))
    assert share_gradients(network, replace(problem, teacher=teacher), 0, micro=8) == (0.0, True)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_network_computes_in_the_problems_precision(on_gpu: Build, precision: str, dtype: torch.dtype) -> None:
    network, problem = on_gpu()
    seen: set[torch.dtype] = set()
    head = network.get_submodule("base_model.model").get_classifier()
    head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    share_gradients(network, replace(problem, precision=precision), 0, micro=8)
    assert seen == {dtype}


def test_augmentation_runs_on_the_images_device(on_gpu: Build) -> None:
    problem = on_gpu()[1]
    images, labels = load_batch(problem, np.array([1, 4, 5]))
    assert (images.device.type, labels.device.type, images.shape) == ("cuda", "cuda", (3, 32, 32, 3))
    warped = augment(images, AugmentSettings(), draw(3, torch.Generator()))
    assert (warped.device.type, warped.shape, warped.dtype) == ("cuda", (3, 3, 32, 32), torch.float32)


def test_optimizer_and_average_stay_on_the_gpu(on_gpu: Build) -> None:
    network, _ = on_gpu()
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    progress = train_loop.Progress(average={name: p.detach().cpu() for name, p in trainable.items()})
    with pytest.raises(RuntimeError, match="same device"):
        train_loop.update_ema(progress, trainable, 0.9)
    progress.average = {name: tensor.to(trainable[name].device) for name, tensor in progress.average.items()}
    train_loop.update_ema(progress, trainable, 0.9)
    train_loop.copy_weights(trainable, {name: torch.zeros(p.shape) for name, p in trainable.items()})  # from the CPU
    assert {tensor.device.type for tensor in progress.average.values()} == {"cuda"}


@pytest.mark.parametrize(
    ("precision", "where", "enabled"), [("bf16", "cuda", True), ("fp32", "cuda", False), ("bf16", "cpu", True)]
)
def test_autocast_has_the_problems_device_and_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, where: str, enabled: bool
) -> None:
    asked: list[tuple[Any, ...]] = []

    def autocast(*arguments: Any, **options: Any) -> Any:
        asked.append((*arguments, options))
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    train_step.autocast(Problem(CONFIG, RULE, 3, examples(2), examples(2), where, precision))
    assert asked == [(where, torch.bfloat16, {"enabled": enabled})]


@pytest.mark.parametrize(("major", "precision"), [(9, "bf16"), (8, "bf16"), (7, "fp32"), (6, "fp32")])
def test_bf16_needs_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch, major: int, precision: str) -> None:
    """Older GPUs (V100 and T4: compute capability 7) emulate bf16, slowly; PyTorch's default answer includes them."""
    network = nn.Linear(2, 2)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network.to("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(major=major))
    monkeypatch.setattr(device, "run_trial", lambda *_: pytest.fail("a trial on a GPU"))
    assert choose_precision("auto", network, 32) == precision
    assert choose_precision("fp32", network, 32) == "fp32"


@pytest.mark.parametrize(
    ("requested", "usable", "chosen"),
    [("auto", True, "cuda"), ("cuda", True, "cuda"), ("cpu", True, "cpu"), ("auto", False, "cpu")],
)
def test_the_device(monkeypatch: pytest.MonkeyPatch, requested: str, usable: bool, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    assert choose_device(requested) == chosen


@pytest.mark.parametrize(("where", "emptied"), [("cuda", 1), ("cpu", 0)])
def test_memory_is_given_back_before_a_smaller_micro_batch(
    monkeypatch: pytest.MonkeyPatch, where: str, emptied: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    assert halved(8, Problem(CONFIG, RULE, 3, examples(8), examples(2), where, "fp32")) == 4
    assert len(calls) == emptied


def test_a_network_that_does_not_fit_into_the_gpus_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(network: nn.Module, where: object, **_: object) -> nn.Module:
        if where != "cuda":
            return network
        raise torch.OutOfMemoryError("CUDA out of memory.")

    net, _ = model.load(CONFIG.backbone, 3, "random", 0)
    monkeypatch.setattr(nn.Module, "to", full)
    with pytest.raises(ConfigError, match="'test_efficientnet' does not fit into the memory of cuda"):
        job.build_network(net, CONFIG, "cuda")


def test_features_are_compared_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 rounds to 11 bits: fused layers would differ, and fusion would be undone."""
    seen = []
    probe = fused.probe
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(
        fused, "probe", lambda *inputs: (seen.append(torch.backends.cudnn.allow_tf32), probe(*inputs))[1]
    )
    net, _ = model.load(CONFIG.backbone, 3, "random", 0)
    job.build_network(net, CONFIG, "cpu")
    assert seen == [False, False] and torch.backends.cudnn.allow_tf32 is True


def test_more_processes_than_gpus_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes on this host, but 1 GPUs"):
        distributed.start_accelerator("cuda")
