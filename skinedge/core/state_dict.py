"""Read weights from untrusted files: .safetensors, and .pth files that hold tensors only.

The header's size is checked first, no tensor is larger than its file, and only tensors are unpickled.
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

NESTS = ("state_dict", "model")  # keys of checkpoints that contain a state dict
MAX_HEADER = 16 << 20  # bytes; that of EfficientNet-Lite0 has 40,000
State = dict[str, "torch.Tensor"]


def read_state(path: Path, kind: type[SkinedgeError] = ConfigError) -> State:
    """Read a state dict from a .safetensors or a plain (weights only) torch file; raises `kind`."""
    if path.suffix == ".safetensors":
        return read_safetensors(path, kind)[0]
    import torch

    with reading(path, kind, "a state dict"):
        if zipfile.is_zipfile(path):
            _refuse_compressed(path, kind)
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        state = next((dict(state[nest]) for nest in NESTS if isinstance(state.get(nest), Mapping)), state)
        non_tensors = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
        if non_tensors:
            raise ValueError(f"'{non_tensors[0]}' is not a tensor")
        return {str(name): tensor for name, tensor in state.items()}


def read_safetensors(path: Path, kind: type[SkinedgeError] = BundleError) -> tuple[State, dict[str, str]]:
    """Read all tensors of a .safetensors file, and its metadata; raises `kind`."""
    import safetensors

    with reading(path, kind, "a .safetensors file"):
        with path.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
        if header_bytes > min(MAX_HEADER, path.stat().st_size):
            raise ValueError(f"its header has {header_bytes} bytes")
        with safetensors.safe_open(str(path), "pt") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118  not a dict


def fill(net: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy `state` into `net`; raises BundleError naming the first mismatched tensor, see `difference`."""
    own = net.state_dict()
    problem = difference(own, state)
    if problem:
        raise BundleError(f"the weights do not fit the network: {problem}", where=where)
    net.load_state_dict(dict(state))


def difference(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str | None:
    """Return the first difference in names, shapes or number types; None if `state` can be copied into `own`."""
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
    """Convert any exception of a reader of weights to a one-line `kind`; SkinedgeErrors pass unchanged."""
    if not path.exists():
        raise kind("no such file", where=str(path))
    try:
        yield
    except SkinedgeError:
        raise
    except Exception as error:  # the unpickler and peft raise anything on damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise kind(f"not {what}, or a damaged one ({type(error).__name__}: {reason})", where=str(path)) from None


def _refuse_compressed(path: Path, kind: type[SkinedgeError]) -> None:
    """Refuse compressed members: torch never writes them, and their unpacked size is unlimited."""
    with open_zip(path, kind, "a state dict") as archive:
        compressed = [info.filename for info in archive.infolist() if info.compress_size != info.file_size]
        if compressed:
            raise ValueError(f"'{compressed[0]}' is compressed")
