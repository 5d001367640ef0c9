"""Read weights from files of any origin: .safetensors, and .pth files that hold tensors only.

Headers are measured before they are read, no tensor is larger than its file, and nothing is unpickled but tensors.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skinedge.core.errors import BundleError, ConfigError, SkinedgeError
from skinedge.core.zip_file import open_zip

if TYPE_CHECKING:
    import torch
    from torch import nn

NESTS = ("state_dict", "model")  # keys under which training scripts keep a state dict
MAX_HEADER = 16 << 20  # bytes; EfficientNet-Lite0's has 40 thousand
State = dict[str, "torch.Tensor"]


def read_state(path: Path, kind: type[SkinedgeError] = ConfigError) -> State:
    """Read a state dict from a .safetensors or a plain (weights only) torch file; raises `kind`."""
    if path.suffix == ".safetensors":
        return read_safetensors(path, kind)[0]
    import torch

    with reading(path, kind, "a state dict"):
        if zipfile.is_zipfile(path):
            _refuse_packed(path, kind)
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        state = next((dict(state[nest]) for nest in NESTS if isinstance(state.get(nest), Mapping)), state)
        other = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if other:
            raise ValueError(f"'{other[0]}' is no tensor")
        return {str(name): tensor for name, tensor in state.items()}


def read_safetensors(path: Path, kind: type[SkinedgeError] = BundleError) -> tuple[State, dict[str, str]]:
    """Read all tensors of a .safetensors file, and the texts of its header; raises `kind`."""
    import safetensors

    with reading(path, kind, "a .safetensors file"):
        with path.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        if header > min(MAX_HEADER, path.stat().st_size):
            raise ValueError(f"its header has {header} bytes")
        with safetensors.safe_open(str(path), "pt") as opened:
            texts = dict(opened.metadata() or {})
            return {name: opened.get_tensor(name) for name in opened.keys()}, texts  # noqa: SIM118  not a dict


def fill(net: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy `state` into `net`; raises BundleError naming the first tensor that does not fit, see `difference`."""
    own = net.state_dict()
    problem = difference(own, state)
    if problem:
        raise BundleError(f"the weights do not fit the network: {problem}", where=where)
    net.load_state_dict(dict(state))


def difference(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str | None:
    """Return the first difference in names, shapes or kinds of numbers; None where the tensors can take the others'."""
    for name in [*own, *state]:
        if name not in state or name not in own:
            return f"'{name}' is missing" if name not in state else f"'{name}' is unknown"
        if own[name].shape != state[name].shape:
            return f"'{name}' is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        if own[name].is_floating_point() != state[name].is_floating_point() or state[name].is_complex():
            return f"'{name}' is {state[name].dtype}, not {own[name].dtype}"
    return None


@contextmanager
def reading(path: Path, kind: type[SkinedgeError], what: str) -> Iterator[None]:
    """Turn whatever a reader of weights raises over a file into one line of `kind`; ours pass."""
    if not path.exists():
        raise kind("no such file", where=str(path))
    try:
        yield
    except SkinedgeError:
        raise
    except Exception as error:  # the unpickler and peft raise whatever the bytes make them raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise kind(f"not {what}, or a damaged one ({type(error).__name__}: {reason})", where=str(path)) from None


def _refuse_packed(path: Path, kind: type[SkinedgeError]) -> None:
    """torch stores its members unpacked; packed ones may be any size."""
    with open_zip(path, kind, "a state dict") as archive:
        packed = [info.filename for info in archive.infolist() if info.compress_size != info.file_size]
        if packed:
            raise ValueError(f"'{packed[0]}' is packed")
