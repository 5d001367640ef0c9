"""Base weights from users' files: loaded by name; files with other names are refused, never matched by position."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from skinedge.core.errors import ConfigError
from skinedge.network import model
from skinedge.network.weight_names import load_by_name, match_by_position

BACKBONE = "test_efficientnet"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def original() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return timm.create_model(BACKBONE, num_classes=5).eval()


def body(net: nn.Module) -> State:
    return {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("classifier.")}


def loaded(path: Path) -> nn.Module:
    return model.load(BACKBONE, 7, str(path), seed=0)[0]


def same(net: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(tensor, body(other)[name]) for name, tensor in body(net).items())


WRAPPERS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "in a checkpoint": lambda state: {"state_dict": state, "epoch": 3},
    "as model": lambda state: {"model": state, "optimizer": {"lr": 1}},
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "Lightning": lambda state: {"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}},
    "without a classifier": lambda state: {n: t for n, t in state.items() if not n.startswith("classifier.")},
    "another classifier": lambda state: {n.replace("classifier.", "fc."): t for n, t in state.items()},
    "without counters": lambda state: {n: t for n, t in state.items() if "num_batches" not in n},
    "in another order": lambda state: dict(random.Random(0).sample(list(state.items()), len(state))),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_known_wrappers_are_removed(original: nn.Module, tmp_path: Path, wrapper: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(WRAPPERS[wrapper](original.state_dict()), path)
    assert same(original, loaded(path))


def test_safetensors_are_loaded_by_name_too(original: nn.Module, tmp_path: Path) -> None:
    save_file(original.state_dict(), tmp_path / "weights.safetensors")
    assert same(original, loaded(tmp_path / "weights.safetensors"))


def test_swapped_tensors_under_other_names_are_refused(original: nn.Module, tmp_path: Path) -> None:
    """Matching by position would load two tensors of equal shape in swapped order."""
    state = {f"net_{name}": tensor for name, tensor in original.state_dict().items()}
    first, second = next(
        (a, b) for a in state for b in state if a < b and state[a].dim() and state[a].shape == state[b].shape
    )
    state[first], state[second] = state[second], state[first]
    torch.save(state, tmp_path / "swapped.pth")
    with pytest.raises(
        ConfigError, match=r"missing, the first is conv_stem\.weight.*unexpected, the first is net_"
    ) as error:
        loaded(tmp_path / "swapped.pth")
    assert "timm's names" in str(error.value) and "swapped.pth" in str(error.value)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["order", "rename", "drop", "add", "shape", "renamed all", "tensor"]))
def test_a_mutated_file_is_loaded_correctly_or_refused(seed: int, mutation: str) -> None:
    """Every tensor has its own value, so that a swap is detected."""
    rng = random.Random(seed)
    net = model.build(BACKBONE, 5)
    tensors = {name: torch.full_like(tensor, number) for number, (name, tensor) in enumerate(net.state_dict().items())}
    state: dict[str, Any] = dict(rng.sample(list(tensors.items()), len(tensors)))
    name = rng.choice([n for n in tensors if not n.startswith("classifier.") and not n.endswith("num_batches_tracked")])
    if mutation == "rename":
        state[f"{name}_"] = state.pop(name)
    elif mutation == "drop":
        del state[name]
    elif mutation == "add":
        state[f"{name}.extra"] = torch.zeros(2)
    elif mutation == "shape":
        state[name] = torch.zeros(*state[name].shape, 2)
    elif mutation == "renamed all":
        state = {f"x{n}": tensor for n, tensor in state.items()}
    elif mutation == "tensor":
        state[name] = "no tensor"
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    if mutation == "order":
        load_by_name(net, state, "classifier", "file")
        assert all(torch.equal(tensor, tensors[key]) for key, tensor in body(net).items())
        return
    with pytest.raises(ConfigError) as error:
        load_by_name(net, state, "classifier", "file")
    assert (name in str(error.value)) or mutation == "renamed all"
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items()), "partly loaded"


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"a": 1}, {"model": {"a": [1]}}])
def test_a_file_without_tensors_is_not_a_state_dict(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="not a state dict"):
        loaded(tmp_path / "weights.pth")


def test_matching_by_position_needs_the_same_number_of_tensors() -> None:
    net = model.build(BACKBONE, 5)
    with pytest.raises(ConfigError, match="1 tensors, the backbone has"):
        match_by_position(net, {"a": torch.zeros(1)}, "file")
