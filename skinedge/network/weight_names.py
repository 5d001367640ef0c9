"""State dicts of base weights into a network: by name. By position only for packages whose hash and order are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skinedge.core.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

PREFIXES = ("module.", "_orig_mod.", "model.")  # of DataParallel, torch.compile and Lightning
HEADS = ("classifier", "fc", "head", "head.fc", "last_linear", "_fc")  # names of classifiers, which are not loaded
COUNTER = "num_batches_tracked"  # of BatchNorm, which older files lack and inference never reads


def in_order(net: nn.Module, state: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the tensors under the network's own names, paired by position: for a file that is known to fit.

    Raises: ConfigError for another number of tensors.
    """
    own = net.state_dict()
    if len(own) != len(state):
        raise ConfigError(f"{len(state)} tensors, the backbone has {len(own)}", where=where)
    return dict(zip(own, state.values(), strict=True))


def load_by_name(net: nn.Module, state: Mapping[str, Any], head: str, where: str) -> None:
    """Copy all but the classifier into `net`; each tensor by its name.

    Wrappers' prefixes that all names share are taken off.

    Args:
        head: name of the network's classifier; the file's own classifier is ignored, whatever its shape.
        where: the file, for errors.
    Raises: ConfigError with the first names that are missing, unexpected or of another shape.
    """
    own = net.state_dict()
    body = {name: tensor for name, tensor in own.items() if not name.startswith(f"{head}.")}
    given = _without_head(unwrapped(state, where), {head, *HEADS}, body)
    missing = [name for name in body if name not in given and not name.endswith(COUNTER)]
    unexpected = [name for name in given if name not in body]
    if missing or unexpected:
        raise ConfigError(
            f"the names of its tensors are not the backbone's: {_listed(missing, unexpected)}",
            where=where,
            todo="Save it from timm's network of that name (torch.save(net.state_dict(), FILE)), or rename its tensors "
            "to timm's names. Tensors are not matched by their order: two of one shape could be swapped unseen.",
        )
    wrong = [name for name, tensor in given.items() if tensor.shape != body[name].shape]
    if wrong:
        shapes = f"{tuple(given[wrong[0]].shape)}, the backbone's is {tuple(body[wrong[0]].shape)}"
        raise ConfigError(f"{len(wrong)} tensors have another shape; the first is {wrong[0]}: {shapes}", where=where)
    net.load_state_dict({**own, **given})


def unwrapped(state: Mapping[str, Any], where: str) -> dict[str, torch.Tensor]:
    """Return the tensors without a prefix that all of their names have.

    Raises: ConfigError where there are none.
    """
    import torch

    other = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if other or not state:
        raise ConfigError(f"not a state dict: {f'{other[0]!r} is no tensor' if other else 'it is empty'}", where=where)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def _without_head(
    state: Mapping[str, torch.Tensor], heads: set[str], body: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Drop the file's classifier: the weight and the bias of a layer with a classifier's name that `body` lacks."""
    return {
        name: tensor
        for name, tensor in state.items()
        if name in body or not (name.rpartition(".")[0] in heads and name.endswith((".weight", ".bias")))
    }


def _listed(missing: list[str], unexpected: list[str]) -> str:
    parts = [
        f"{len(names)} {what}, the first is {names[0]}"
        for what, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    return "; ".join(parts)
