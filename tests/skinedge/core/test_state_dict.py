"""Damaged and malicious weights, adapters and checkpoints: refused in one line that names the file and the tensor."""

from __future__ import annotations

import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skinedge.core.errors import BundleError, ConfigError, SkinedgeError

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from skinedge.core import state_dict  # noqa: E402
from skinedge.network import lora, model  # noqa: E402
from skinedge.run.config import LoraSettings  # noqa: E402
from skinedge.training.checkpoint import NEWEST, Checkpoints  # noqa: E402

BACKBONE = "test_efficientnet"


def small_state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {"a.weight": torch.randn(4, 3, generator=generator), "b": torch.arange(5), "c": torch.zeros(())}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    lora.attach(model.build(BACKBONE, 3), LoraSettings(rank=2)).save_pretrained(str(folder))
    return folder


def safetensors_header(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 90_000_000) + b"{",
        safetensors_header(b"[" * 5000),
        safetensors_header({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}),
        safetensors_header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors_header({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    ],
)
def test_invalid_safetensors_header_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.safetensors: not a \.safetensors file, or a damaged one") as raised:
        state_dict.read_safetensors(path)
    assert "\n" not in str(raised.value) and len(raised.value.what) < 400


def test_compressed_torch_file_is_refused(tmp_path: Path) -> None:
    stored, compressed = tmp_path / "stored.pth", tmp_path / "compressed.pth"
    torch.save({"a": torch.zeros(100_000)}, stored)
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert state_dict.read_state(stored)["a"].shape == (100_000,)
    with pytest.raises(ConfigError, match="is compressed"):
        state_dict.read_state(compressed)


def test_torch_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": small_state()}, path)
    assert state_dict.read_state(path).keys() == small_state().keys()
    for content in ([1, 2], {"a": 1.5}, {"state_dict": {"a": 1.5}}):
        torch.save(content, path)
        with pytest.raises(ConfigError, match="not a state dict"):
            state_dict.read_state(path)
    with pytest.raises(ConfigError, match="no such file"):
        state_dict.read_state(tmp_path / "none.pth")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the file with flipped bits (near the start or anywhere), cut, or with a copied piece inserted."""
    changed, kind = bytearray(data), rng.randrange(4)
    if kind == 0:
        return bytes(changed[: rng.randrange(len(data))])
    if kind == 1:
        start, to = rng.randrange(len(data)), rng.randrange(len(data))
        changed[to:to] = data[start : start + rng.randrange(1, 40)]
        return bytes(changed)
    for _ in range(rng.randrange(1, 4)):
        changed[rng.randrange(min(len(data), 300) if kind == 2 else len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_mutated_weights_are_read_or_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    path, rng, refused = tmp_path / f"w{suffix}", random.Random(14), 0
    save: Callable[..., Any] = torch.save if suffix == ".pth" else save_file
    save(small_state(), path)
    data = path.read_bytes()
    for case in range(300):
        path.write_bytes(mutated(data, rng))
        try:
            assert all(isinstance(value, torch.Tensor) for value in state_dict.read_state(path).values()), case
        except ConfigError as error:
            assert error.where == str(path) and "\n" not in error.what, case
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "kind"])
def test_mismatched_weights_error_names_the_tensor(change: str) -> None:
    net = model.build(BACKBONE, 3)
    state = dict(net.state_dict())
    name = "classifier.weight"
    expected = {"missing": "is missing", "unknown": "'other' is unknown", "shape": r"is \(3, 1\), not", "kind": "int64"}
    if change == "missing":
        del state[name]
    elif change == "unknown":
        state["other"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(3, 1) if change == "shape" else state[name].long()
    with pytest.raises(BundleError, match=expected[change]):
        state_dict.fill(net, state, "file")


def test_valid_adapter_is_loaded_and_others_are_refused(adapter: Path, tmp_path: Path) -> None:
    """peft ignores unknown names: the result would silently be the base network."""
    lora.load_adapter(model.build(BACKBONE, 3), adapter)
    config, tensors = (adapter / name for name in ("adapter_config.json", "adapter_model.safetensors"))
    state, _ = state_dict.read_safetensors(tensors)
    first = next(iter(state))
    settings = json.loads(config.read_text())

    def refused(settings: dict[str, Any], state: dict[str, Any]) -> str:
        (tmp_path / config.name).write_text(json.dumps(settings))
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / tensors.name)
        with pytest.raises(SkinedgeError) as raised:
            lora.load_adapter(model.build(BACKBONE, 3), tmp_path)
        assert "\n" not in raised.value.what
        return str(raised.value)

    renamed = {("x" + name if name == first else name): tensor for name, tensor in state.items()}
    assert f"'{first}' is missing" in refused(settings, renamed)
    assert "is unknown" in refused(settings, {**state, "other": torch.zeros(1)})
    assert "conv.lora_A" in refused(settings, {**state, first: state[first][..., :1].repeat(1, 9, 1, 1)})
    assert "not the settings of a LoRA adapter" in refused({**settings, "peft_type": "PROMPT_TUNING"}, state)
    assert "not a LoRA adapter" in refused({**settings, "r": "many"}, state)
    assert "not a LoRA adapter" in refused({**settings, "target_modules": ["nothing"]}, state)


def test_mutated_checkpoint_is_restored_exactly_or_refused(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.randn(3, 2, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.AdamW([parameter])
    checkpoints = Checkpoints(tmp_path, "job")
    checkpoints.save({"a": parameter}, optimizer, {"step": 1})
    path, rng, refused = tmp_path / NEWEST, random.Random(14), 0
    data, saved = path.read_bytes(), parameter.detach().clone()
    for case in range(200):
        path.write_bytes(mutated(data, rng))
        with torch.no_grad():
            parameter.zero_()
        try:
            checkpoints.restore({"a": parameter}, optimizer)
            assert torch.equal(parameter, saved), case
        except BundleError as error:
            assert "\n" not in error.what, case
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "other", [{"a": torch.zeros(1)}, {"b": torch.zeros(3, 2)}, {"a": torch.zeros(3, 2).long()}, {"a": 1}, [1]]
)
def test_checkpoint_with_other_tensors_is_not_loaded(tmp_path: Path, other: Any) -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = torch.optim.AdamW([parameter])
    content = {"job": "job", "trainable": other, "optimizer": optimizer.state_dict(), "progress": {"step": 1}}
    torch.save(content, tmp_path / NEWEST)
    with pytest.raises(BundleError, match="every checkpoint is damaged"):
        Checkpoints(tmp_path, "job").restore({"a": parameter}, optimizer)
    assert torch.equal(parameter, torch.ones(3, 2))
