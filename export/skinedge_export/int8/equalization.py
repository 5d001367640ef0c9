"""Channel equalization: every channel of a tensor uses the full int8 range, though all share one scale.

A channel may be multiplied in the layer that writes it and divided in the layers that read it without changing the
network's function, if only linear operations or a ReLU are between them (cross-layer equalization, Nagel et al. 2019,
section 4.1; here over whole residual chains). So each channel gets a range of its own, at no cost on the device.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.network import model
from skinedge.system.progress import note
from skinedge_export.int8.calibration_images import in_order
from skinedge_export.int8.finite import require_finite

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

STRETCH = 16.0  # largest factor: a channel that is zero on these images may not be on others


@dataclass
class Channels:
    """Tensors whose channels need the same factors, because they are added to one another or passed through.

    writers, readers: layers that write and read them; nodes: the tensors' names in the graph; fixed: scaling would
    change the network's function.
    """

    writers: set[str] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    fixed: bool = False

    def absorb(self, other: Channels) -> None:
        """Add another group's tensors to this one."""
        for mine, theirs in ((self.writers, other.writers), (self.readers, other.readers), (self.nodes, other.nodes)):
            mine |= theirs
        self.fixed |= other.fixed


def equalize(network: nn.Module, pixels: Pixels, rule: Preprocess) -> nn.Module:
    """Return a copy of `network` with the same function and, as far as possible, equal channel ranges.

    network: eval mode, CPU, fp32, normalized NCHW input; returned unchanged if torch.fx cannot trace it;
    pixels: (N, S, S, 3) uint8, prepared, in any order.
    Raises: GateError if a value is not finite.
    """
    import torch

    try:
        graph = _trace(network)
    except Exception as error:  # torch.fx raises exceptions of any kind for code that it cannot trace
        note(f"channels are not equalized: this network cannot be traced ({str(error).splitlines()[0]})")
        return network
    groups = [group for group in _groups(network, graph) if group.writers and group.readers and not group.fixed]
    largest = _largest(network, graph, pixels, rule, {name for group in groups for name in group.nodes})
    equal = copy.deepcopy(network)
    with torch.no_grad():
        for group in groups:
            peaks = [largest[name] for name in group.nodes]
            if len({len(peak) for peak in peaks}) > 1:  # flattened: axis 1 no longer is the channels alone
                continue
            peak = torch.stack(peaks).amax(dim=0)
            factors = (peak.max() / peak.clamp_min(torch.finfo(peak.dtype).tiny)).clamp(1, STRETCH)
            for name in group.writers:
                _scale_output(equal.get_submodule(name), factors)
            for name in group.readers:
                _scale_input(equal.get_submodule(name), factors)
    return equal


def _scale_output(layer: Any, factors: torch.Tensor) -> None:
    """Multiply the C outputs of a BatchNorm, convolution or linear layer by factors (C,), in place."""
    layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.mul_(factors)


def _scale_input(layer: Any, factors: torch.Tensor) -> None:
    """Divide the weights for the C inputs of a convolution or linear layer by factors (C,), in place."""
    groups = getattr(layer, "groups", 1)
    weight = layer.weight.view(groups, -1, *layer.weight.shape[1:])  # (G, O / G, C / G, ...)
    weight.div_(factors.view(groups, 1, -1, *[1] * (weight.dim() - 3)))


def _trace(network: nn.Module) -> fx.Graph:
    """Trace the calls of layers; a BatchNorm with an activation inside is one layer."""
    from timm.layers import BatchNormAct2d
    from torch import fx

    class Tracer(fx.Tracer):  # type: ignore[misc]
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            plain = isinstance(module, BatchNormAct2d) or not list(module.children())
            return plain or bool(super().is_leaf_module(module, name))

    return Tracer().trace(network)


def _groups(network: nn.Module, graph: fx.Graph) -> list[Channels]:
    """Group the graph's tensors: each starts a group, or joins the group of the tensors it is computed from."""
    groups: dict[str, Channels] = {}
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        kind = _kind(network, node) if calls[str(node.target)] <= 1 else "other"
        sources = [groups[source.name] for source in node.all_input_nodes]
        if kind == "pass":
            group = sources[0]
            for other in sources[1:]:
                group.absorb(other)
                groups.update(dict.fromkeys(other.nodes, group))
            group.nodes.add(node.name)
        else:
            fixed = kind == "other"
            group = Channels(set() if fixed else {node.target}, nodes={node.name}, fixed=fixed)
            for source in sources:
                source.readers.add(str(node.target))
                source.fixed |= kind != "weight"  # a BatchNorm's output can be scaled, its input not
        groups[node.name] = group
    return list({id(group): group for group in groups.values()}.values())


def _kind(network: nn.Module, node: fx.Node) -> str:
    """Classify a node by its effect on scaled channels: 'weight', 'norm', 'pass', or 'other', not known to be safe."""
    from timm.layers import BatchNormAct2d, Conv2dSame, DropPath
    from torch import nn

    if node.op == "call_function" and node.target in (operator.add, operator.iadd):
        return "pass" if len(node.all_input_nodes) == len(node.args) else "other"
    if node.op != "call_module":
        return "other"
    layer = network.get_submodule(node.target)
    if type(layer) in (nn.Conv2d, Conv2dSame, nn.Linear):
        return "weight"
    plain = type(layer) is BatchNormAct2d and type(layer.drop) is nn.Identity
    if (plain or type(layer) is nn.BatchNorm2d) and layer.affine:
        act = type(getattr(layer, "act", None))
        return "norm" if act in (nn.ReLU, nn.Identity, type(None)) else "other"  # ReLU6 clips at 6, scaled or not
    passing = (nn.Identity, nn.ReLU, nn.Dropout, DropPath, nn.Flatten, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
    return "pass" if isinstance(layer, passing) else "other"


def _largest(
    network: nn.Module, graph: fx.Graph, pixels: Pixels, rule: Preprocess, names: set[str]
) -> dict[str, torch.Tensor]:
    """Return tensor name -> each channel's largest magnitude over the images, (C,) float32."""
    import torch
    from torch import fx

    largest: dict[str, torch.Tensor] = {}

    class Watcher(fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: fx.Node) -> Any:
            result = super().run_node(node)
            if node.name in names:
                magnitudes = result.abs().transpose(0, 1).flatten(1).amax(dim=1)
                require_finite(str(node.target), *magnitudes.tolist())
                largest[node.name] = torch.maximum(magnitudes, largest.get(node.name, magnitudes))
            return result

    watcher = Watcher(fx.GraphModule(network, graph))
    with torch.inference_mode():
        for images in model.inputs(in_order(pixels), rule):
            watcher.run(images)
    return largest
