"""LoRA adapters on a CNN: target layers, training mode, loading.

BatchNorm stays frozen (its statistics are not part of an adapter), so that the saved adapter with the base weights
gives exactly the trained logits.
"""

from __future__ import annotations

import fnmatch
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinedge.core.errors import BundleError, ConfigError
from skinedge.core.json_io import read_json
from skinedge.core.state_dict import difference, read_safetensors, reading
from skinedge.network import model
from skinedge.run.config import LoraSettings

if TYPE_CHECKING:
    from torch import nn


def target_layers(net: nn.Module) -> list[str]:
    """List the names of the layers that can have an adapter and be merged.

    These are linear layers and convolutions with groups == 1 (peft cannot merge grouped convolutions), except the
    classifier, which is fully trained. Convolution subclasses with their own padding (TensorFlow's 'same' stem) are
    excluded: peft's low-rank branch would pad differently.
    """
    from torch import nn

    def fits(module: nn.Module) -> bool:
        return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)

    head = model.classifier_name(net)
    return [name for name, module in net.named_modules() if name != head and fits(module)]


def targets(net: nn.Module, settings: LoraSettings) -> list[str]:
    """List the target layers that match the patterns in the settings.

    Raises: ConfigError for a pattern that matches no layer.
    """
    candidates = target_layers(net)
    selected: set[str] = set()
    for pattern in settings.targets:
        matches = fnmatch.filter(candidates, pattern)
        if not matches:
            examples = ", ".join(candidates[:6])
            raise ConfigError(f"lora.targets: '{pattern}' matches no layer", todo=f"Layers are named like: {examples}.")
        selected.update(matches)
    return [name for name in candidates if name in selected]


def attach(net: nn.Module, settings: LoraSettings, seed: int = 0) -> Any:
    """Attach fresh adapters, determined by `seed`, to `net`; return a PeftModel in eval mode.

    Raises: ConfigError for a pattern that matches no layer, or a layer for which DoRA is undefined.
    """
    import torch

    peft = import_peft()
    names = targets(net, settings)
    if settings.dora:
        check_dora_filters(net, names)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rank_stabilized,
        use_dora=settings.dora,
        target_modules="|".join(re.escape(name) for name in names),  # peft matches a list by suffix
        modules_to_save=[str(model.classifier_name(net))],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(net, config).eval()


def check_dora_filters(net: nn.Module, names: Sequence[str]) -> None:
    """Raises: ConfigError for a layer with an all-zero filter, by whose norm DoRA would divide."""
    for name in names:
        if not net.get_submodule(name).weight.detach().flatten(1).norm(dim=1).all():
            raise ConfigError(
                f"lora.dora: layer '{name}' has a filter of zeros, which has no direction",
                todo="Leave the layer out with lora.targets, or set lora.dora = false.",
            )


def channels_last(adapted: nn.Module) -> nn.Module:
    """Convert the network's kernels to channels-last memory format, in place, which speeds up convolutions.

    Kernels of DoRA adapters stay contiguous: peft views them as matrices.
    """
    import torch
    from peft.tuners.lora import Conv2d as LoraConv2d

    adapted.to(memory_format=torch.channels_last)
    for module in adapted.modules():
        if isinstance(module, LoraConv2d) and "default" in module.lora_magnitude_vector:
            down = module.lora_A["default"].weight
            down.data = down.data.contiguous()
    return adapted


def train_mode(adapted: nn.Module) -> None:
    """Set training mode for the adapters' dropout only; BatchNorm and the backbone's dropout stay in eval mode."""
    adapted.eval()
    for name, module in adapted.named_modules():
        if "lora_dropout" in name:
            module.train()


def load_adapter(net: nn.Module, folder: Path) -> Any:
    """Load an adapter onto `net` without peft's warnings (`PeftModel.from_pretrained`), in eval mode.

    Raises: BundleError when a file is damaged, is not a LoRA adapter, or its tensors do not match its settings (peft
        itself ignores unknown tensors).
    """
    peft = import_peft()
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if read_json(config, dict[str, Any]).get("peft_type") != "LORA":
        raise BundleError("not the settings of a LoRA adapter", where=str(config))
    state, _ = read_safetensors(weights)
    with warnings.catch_warnings(), reading(folder, BundleError, "a LoRA adapter of this network"):
        warnings.simplefilter("ignore")  # peft warns that a timm model has no model card
        adapted = peft.PeftModel.from_pretrained(net, str(folder)).eval()
        problem = difference(peft.get_peft_model_state_dict(adapted), state)
    if problem:
        raise BundleError(f"the adapter does not match its settings: {problem}", where=str(weights))
    return adapted


def import_peft() -> Any:
    """Import peft without the lines that torchao writes to standard error.

    Raises: ConfigError without docstrings, which transformers, imported by peft, reads.
    """
    import logging

    if sys.flags.optimize > 1:
        todo = "Unset PYTHONOPTIMIZE, or leave out -OO."
        raise ConfigError("Python runs without docstrings (PYTHONOPTIMIZE=2), which peft needs", todo=todo)
    logger = logging.getLogger("torch.utils._pytree")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import peft
    finally:
        logger.setLevel(level)
    return peft
