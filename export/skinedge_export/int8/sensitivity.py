"""Which layers int8 hurts most: each alone is rounded to 8 bits, in PyTorch, and the logits are compared."""

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
    """What is kept in float together: a convolution or linear layer with the norm and activation after it.

    paths: module paths of its parts; own: also the operations that a block computes itself, its last layer's
    (a residual sum), as the path of that block.
    """

    paths: tuple[str, ...]
    own: str | None = None

    @property
    def name(self) -> str:
        return self.paths[0]

    def holds(self, scope: str) -> bool:
        """Whether an operation that the module at `scope` computed is this layer's."""
        return scope == self.own or any(scope == path or scope.startswith(f"{path}.") for path in self.paths)


def layers(network: nn.Module) -> list[Layer]:
    """The network's layers, in the order in which its modules are listed."""
    from torch import nn

    def is_weighted(module: nn.Module) -> bool:
        return isinstance(module, nn.Conv2d | nn.Linear)

    def walk(module: nn.Module, prefix: str) -> list[list[str]]:
        found: list[list[str]] = []
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            inside = sum(is_weighted(part) for part in child.modules())
            if is_weighted(child) or (inside and is_gate(name, child)):
                found.append([path])
            elif inside:
                nested = walk(child, f"{path}.")
                if not isinstance(child, nn.Sequential):
                    nested[-1].append(f"={path}")
                found += nested
            elif found:
                found[-1].append(path)
        return found

    return [
        Layer(
            tuple(path for path in group if not path.startswith("=")),
            next((path[1:] for path in group if path.startswith("=")), None),
        )
        for group in walk(network, "")
    ]


def ranked(network: nn.Module, pixels: Pixels, rule: Preprocess) -> list[tuple[Layer, float]]:
    """Layers with the rms change of the centred logits when that layer alone is 8-bit, worst first.

    network: eval mode, CPU, fp32; pixels: (N, S, S, 3) uint8, prepared. A layer with which the logits are not finite
    any more is worst.
    Raises: GateError when the network's logits are not finite.
    """
    import torch

    inputs = list(model.inputs(pixels[:IMAGES], rule))

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            found = torch.cat([network(images) for images in inputs]).double()
        return found - found.mean(dim=1, keepdim=True)

    exact = logits()
    require_finite("logits", *exact.flatten().tolist())
    found = []
    for layer in layers(network):
        with rounded(network, layer):
            change = float((logits() - exact).square().mean().sqrt())
            found.append((layer, change if math.isfinite(change) else math.inf))
    return sorted(found, key=lambda pair: -pair[1])


@contextmanager
def rounded(network: nn.Module, layer: Layer) -> Iterator[None]:
    """The network with that layer's weights (per channel) and all its parts' outputs at 8 bits."""
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
                kept = module.weight.detach().clone()
                stack.callback(module.weight.data.copy_, kept)
                module.weight.data.copy_(channelwise(kept))
            elif not isinstance(module, nn.BatchNorm2d):
                stack.callback(module.register_forward_pre_hook(incoming).remove)
            stack.callback(module.register_forward_hook(outgoing).remove)
        yield


def eight_bits(values: torch.Tensor) -> torch.Tensor:
    """Rounded to 256 levels between its smallest and largest value (zero among them)."""
    low, high = (limit.double() for limit in (values.amin().clamp_max(0), values.amax().clamp_min(0)))
    return _on_grid(values, (high - low) / 255)


def channelwise(weight: torch.Tensor) -> torch.Tensor:
    """(O, ...) rounded to 127 steps up to each output channel's largest magnitude."""
    step = weight.abs().flatten(1).amax(dim=1).double() / 127
    return _on_grid(weight, step.view(-1, *[1] * (weight.dim() - 1)))


def _on_grid(values: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Rounded to multiples of `step`, float64: in float32 it is infinite or 0 where values are huge or tiny."""
    import torch

    return ((values.double() / step.clamp_min(torch.finfo(torch.float64).tiny)).round() * step).to(values.dtype)
