"""Every channel of a tensor uses the whole int8 range, though the tensor has one scale for all of them.

A channel may be multiplied where it is made and divided where it is read without changing what the network
computes, as long as what lies between is linear or a ReLU (cross-layer equalization, Nagel et al. 2019,
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

STRETCH = 16.0  # no channel is stretched further: one that is silent on these images may speak on others


@dataclass
class Channels:
    """Tensors whose channels are scaled alike, because they are added to one another or passed through.

    made, read: layers that write them and that take them; nodes: the tensors' names in the graph; fixed: a
    scale would change what is computed.
    """

    made: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    fixed: bool = False

    def absorb(self, other: Channels) -> None:
        for mine, theirs in ((self.made, other.made), (self.read, other.read), (self.nodes, other.nodes)):
            mine |= theirs
        self.fixed |= other.fixed


def equalize(network: nn.Module, pixels: Pixels, rule: Preprocess) -> nn.Module:
    """A copy of `network` that computes the same with channels of equal range, as far as that can be.

    network: eval mode, CPU, fp32, normalized NCHW input; returned as it is where torch.fx cannot trace it;
    pixels: (N, S, S, 3) uint8, prepared, whose order does not matter.
    Raises: GateError when a value is not finite.
    """
    import torch

    try:
        graph = _trace(network)
    except Exception as error:  # torch.fx raises of every kind for code that it cannot follow
        note(f"channels are not equalized: this network cannot be traced ({str(error).splitlines()[0]})")
        return network
    groups = [group for group in _groups(network, graph) if group.made and group.read and not group.fixed]
    largest = _largest(network, graph, pixels, rule, {name for group in groups for name in group.nodes})
    equal = copy.deepcopy(network)
    with torch.no_grad():
        for group in groups:
            peaks = [largest[name] for name in group.nodes]
            if len({len(peak) for peak in peaks}) > 1:  # flattened on the way: channels no longer stand apart
                continue
            peak = torch.stack(peaks).amax(dim=0)
            factors = (peak.max() / peak.clamp_min(torch.finfo(peak.dtype).tiny)).clamp(1, STRETCH)
            for name in group.made:
                _scale_output(equal.get_submodule(name), factors)
            for name in group.read:
                _scale_input(equal.get_submodule(name), factors)
    return equal


def _scale_output(layer: Any, factors: torch.Tensor) -> None:
    """layer: BatchNorm, convolution or linear layer with C outputs; factors: (C,)."""
    layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.dim() - 1)))
    if layer.bias is not None:
        layer.bias.mul_(factors)


def _scale_input(layer: Any, factors: torch.Tensor) -> None:
    """layer: convolution or linear layer with C inputs; factors: (C,)."""
    groups = getattr(layer, "groups", 1)
    weight = layer.weight.view(groups, -1, *layer.weight.shape[1:])  # (G, O / G, C / G, ...)
    weight.div_(factors.view(groups, 1, -1, *[1] * (weight.dim() - 3)))


def _trace(network: nn.Module) -> fx.Graph:
    """The calls of layers; a BatchNorm with an activation inside is one layer."""
    from timm.layers import BatchNormAct2d
    from torch import fx

    class Tracer(fx.Tracer):  # type: ignore[misc]
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            plain = isinstance(module, BatchNormAct2d) or not list(module.children())
            return plain or bool(super().is_leaf_module(module, name))

    return Tracer().trace(network)


def _groups(network: nn.Module, graph: fx.Graph) -> list[Channels]:
    """Walk the graph once: each tensor starts a group, or joins that of the tensors it is made from."""
    found: dict[str, Channels] = {}
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        kind = _kind(network, node) if calls[str(node.target)] <= 1 else "other"
        sources = [found[source.name] for source in node.all_input_nodes]
        if kind == "pass":
            whole = sources[0]
            for other in sources[1:]:
                whole.absorb(other)
                found.update(dict.fromkeys(other.nodes, whole))
            whole.nodes.add(node.name)
        else:
            fixed = kind == "other"
            whole = Channels(set() if fixed else {node.target}, nodes={node.name}, fixed=fixed)
            for source in sources:
                source.read.add(str(node.target))
                source.fixed |= kind != "weight"  # a BatchNorm is scaled where it writes, not where it reads
        found[node.name] = whole
    return list({id(group): group for group in found.values()}.values())


def _kind(network: nn.Module, node: fx.Node) -> str:
    """What a node of the graph does to channels that were scaled: 'other' is all that is not known to be safe."""
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
    network: nn.Module, graph: fx.Graph, pixels: Pixels, rule: Preprocess, wanted: set[str]
) -> dict[str, torch.Tensor]:
    """Tensor name -> the largest magnitude of each channel over the images, (C,) float32."""
    import torch
    from torch import fx

    largest: dict[str, torch.Tensor] = {}

    class Watcher(fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: fx.Node) -> Any:
            result = super().run_node(node)
            if node.name in wanted:
                seen = result.abs().transpose(0, 1).flatten(1).amax(dim=1)
                require_finite(str(node.target), *seen.tolist())
                largest[node.name] = torch.maximum(seen, largest.get(node.name, seen))
            return result

    watcher = Watcher(fx.GraphModule(network, graph))
    with torch.inference_mode():
        for images in model.inputs(in_order(pixels), rule):
            watcher.run(images)
    return largest
