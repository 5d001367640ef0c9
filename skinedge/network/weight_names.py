"""Loading of base weights into a network: by name; by position only for packages with a known hash and order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skinedge.core.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

PREFIXES = ("module.", "_orig_mod.", "model.")  # added by DataParallel, torch.compile and Lightning
HEADS = ("classifier", "fc", "head", "head.fc", "last_linear", "_fc")  # classifiers, which are not loaded
COUNTER = "num_batches_tracked"  # of BatchNorm: missing in older files, unused in inference


def match_by_position(net: nn.Module, state: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the tensors under the network's names, matched by position; only for files in the known order.

    Raises: ConfigError when the number of tensors differs.
    """
    own = net.state_dict()
    if len(own) != len(state):
        raise ConfigError(f"{len(state)} tensors, the backbone has {len(own)}", where=where)
    return dict(zip(own, state.values(), strict=True))


def load_by_name(net: nn.Module, state: Mapping[str, Any], head: str, where: str) -> None:
    """Copy all tensors except the classifier's into `net`, by name.

    A wrapper's prefix shared by all names is removed.

    Args:
        head: name of the network's classifier; the file's own classifier is ignored.
        where: the file, for errors.
    Raises: ConfigError with the first missing or unexpected name, or wrong shape.
    """
    own = net.state_dict()
    body = {name: tensor for name, tensor in own.items() if not name.startswith(f"{head}.")}
    loaded = _without_head(strip_prefixes(state, where), {head, *HEADS}, body)
    missing = [name for name in body if name not in loaded and not name.endswith(COUNTER)]
    unexpected = [name for name in loaded if name not in body]
    if missing or unexpected:
        raise ConfigError(
            f"tensor names do not match the backbone's: {_summary(missing, unexpected)}",
            where=where,
            todo="Save the file from timm's network of that name (torch.save(net.state_dict(), FILE)), or rename the "
            "tensors to timm's names. Tensors are not matched by order: two of equal shape could be swapped unnoticed.",
        )
    misshapen = [name for name, tensor in loaded.items() if tensor.shape != body[name].shape]
    if misshapen:
        first = misshapen[0]
        shapes = f"{tuple(loaded[first].shape)}, the backbone's is {tuple(body[first].shape)}"
        raise ConfigError(f"{len(misshapen)} tensors have the wrong shape; first: {first} {shapes}", where=where)
    net.load_state_dict({**own, **loaded})


def strip_prefixes(state: Mapping[str, Any], where: str) -> dict[str, torch.Tensor]:
    """Return the tensors without a wrapper's prefix that all names share.

    Raises: ConfigError for an empty state dict, or a value that is not a tensor.
    """
    import torch

    not_tensors = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if not_tensors or not state:
        reason = f"{not_tensors[0]!r} is not a tensor" if not_tensors else "it is empty"
        raise ConfigError(f"not a state dict: {reason}", where=where)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def _without_head(
    state: Mapping[str, torch.Tensor], heads: set[str], body: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Drop the file's classifier: weight and bias of a layer named like a classifier and missing from `body`."""
    return {
        name: tensor
        for name, tensor in state.items()
        if name in body or not (name.rpartition(".")[0] in heads and name.endswith((".weight", ".bias")))
    }


def _summary(missing: list[str], unexpected: list[str]) -> str:
    """Return the number of missing and of unexpected names, each with its first name."""
    parts = [
        f"{len(names)} {kind}, the first is {names[0]}"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    return "; ".join(parts)
