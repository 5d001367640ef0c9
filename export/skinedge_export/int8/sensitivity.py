"""Sensitivity of layers to int8: each alone is rounded to 8 bits, in PyTorch, and the logits are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.network import model
from skinedge.network.int8_risks import is_gate
from skinedge_export.int8.finite import require_finite

if TYPE_CHECKING:
    import torch
    from torch import nn

IMAGES = 32


@dataclass(frozen=True)
class Layer:
    """Unit that int8 or float is chosen for: a convolution or linear layer with the norm and activation after it.

    paths: module paths of its parts; own: path of the block whose own operations (a residual sum) belong to its last
    layer.
    """

    paths: tuple[str, ...]
    own: str | None = None

    @property
    def name(self) -> str:
        """Return the layer's name for reports."""
        return self.paths[0]

    def holds(self, scope: str) -> bool:
        """Return True if an operation of the module at `scope` belongs to this layer."""
        return scope == self.own or any(scope == path or scope.startswith(f"{path}.") for path in self.paths)


def layers(network: nn.Module) -> list[Layer]:
    """Return the network's layers, in the order of its modules."""
    from torch import nn

    def is_weighted(module: nn.Module) -> bool:
        return isinstance(module, nn.Conv2d | nn.Linear)

    def walk(module: nn.Module, prefix: str) -> list[list[str]]:
        groups: list[list[str]] = []
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            inside = sum(is_weighted(part) for part in child.modules())
            if is_weighted(child) or (inside and is_gate(name, child)):
                groups.append([path])
            elif inside:
                nested = walk(child, f"{path}.")
                if not isinstance(child, nn.Sequential):
                    nested[-1].append(f"={path}")
                groups += nested
            elif groups:
                groups[-1].append(path)
        return groups

    return [
        Layer(
            tuple(path for path in group if not path.startswith("=")),
            next((path[1:] for path in group if path.startswith("=")), None),
        )
        for group in walk(network, "")
    ]


def ranked(network: nn.Module, pixels: Pixels, rule: Preprocess) -> list[tuple[Layer, float]]:
    """Return each layer with the rms change of the centred logits if that layer alone is 8-bit, worst first.

    A layer that makes the logits not finite comes first.
    network: eval mode, CPU, fp32; pixels: (N, S, S, 3) uint8, prepared.
    Raises: GateError if the network's logits are not finite.
    """
    import torch

    inputs = list(model.inputs(pixels[:IMAGES], rule))

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            values = torch.cat([network(images) for images in inputs]).double()
        return values - values.mean(dim=1, keepdim=True)

    exact = logits()
    require_finite("logits", *exact.flatten().tolist())
    changes = []
    for layer in layers(network):
        with rounded(network, layer):
            change = float((logits() - exact).square().mean().sqrt())
            changes.append((layer, change if math.isfinite(change) else math.inf))
    return sorted(changes, key=lambda pair: -pair[1])


@contextmanager
def rounded(network: nn.Module, layer: Layer) -> Iterator[None]:
    """Round that layer's weights (per channel) and all its parts' outputs to 8 bits inside the context."""
    import torch
    from torch import nn

    def outgoing(module: nn.Module, args: Any, result: Any) -> Any:
        return eight_bits(result) if isinstance(result, torch.Tensor) else result

    def incoming(module: nn.Module, args: Sequence[Any]) -> Any:
        return (eight_bits(args[0]), *args[1:])

    with ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if not layer.holds(name) or name == layer.own or any(module.children()):
                continue
            weighted = isinstance(module, nn.Conv2d | nn.Linear)
            if weighted:
                weight = module.weight.detach().clone()
                stack.callback(module.weight.data.copy_, weight)
                module.weight.data.copy_(channelwise(weight))
            elif not isinstance(module, nn.BatchNorm2d):
                stack.callback(module.register_forward_pre_hook(incoming).remove)
            stack.callback(module.register_forward_hook(outgoing).remove)
        yield


def eight_bits(values: torch.Tensor) -> torch.Tensor:
    """Round to 256 levels between the smallest and largest value (zero included)."""
    low, high = (limit.double() for limit in (values.amin().clamp_max(0), values.amax().clamp_min(0)))
    return _on_grid(values, (high - low) / 255)


def channelwise(weight: torch.Tensor) -> torch.Tensor:
    """Round weights (O, ...) to 127 steps up to each output channel's largest magnitude."""
    step = weight.abs().flatten(1).amax(dim=1).double() / 127
    return _on_grid(weight, step.view(-1, *[1] * (weight.dim() - 1)))


def _on_grid(values: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Round to multiples of `step`, float64: in float32 it is infinite or 0 for huge or tiny values."""
    import torch

    return ((values.double() / step.clamp_min(torch.finfo(torch.float64).tiny)).round() * step).to(values.dtype)
