"""LoRA adapters on a CNN: where they go, how they run in training, how they are saved.

BatchNorm stays frozen (its statistics are not part of an adapter), so that the saved adapter over the
base weights gives the trained logits exactly.
"""

from __future__ import annotations

import fnmatch
import re
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
    """Names of the layers that can carry an adapter and be merged.

    Convolutions with groups == 1 (peft cannot merge grouped ones) and linear layers, without the
    classifier, which is trained as a whole. Subclasses that pad by themselves (TensorFlow's 'same'
    stem) are left out: peft's low-rank branch would not pad alike.
    """
    from torch import nn

    def fits(module: nn.Module) -> bool:
        return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)

    head = model.classifier_name(net)
    return [name for name, module in net.named_modules() if name != head and fits(module)]


def targets(net: nn.Module, settings: LoraSettings) -> list[str]:
    """The carriers that match the settings' patterns.

    Raises: ConfigError for a pattern that matches none.
    """
    possible = target_layers(net)
    chosen: set[str] = set()
    for pattern in settings.targets:
        matches = fnmatch.filter(possible, pattern)
        if not matches:
            shown = ", ".join(possible[:6])
            raise ConfigError(f"lora.targets: '{pattern}' matches no layer", todo=f"Layers are named like: {shown}.")
        chosen.update(matches)
    return [name for name in possible if name in chosen]


def attach(net: nn.Module, settings: LoraSettings, seed: int = 0) -> Any:
    """Put fresh adapters on `net`, the same for the same seed; returns peft's PeftModel, in eval mode.

    Raises: ConfigError for a pattern that matches no layer, or when DoRA is asked for where it is undefined.
    """
    import torch

    peft = _peft()
    names = targets(net, settings)
    if settings.dora:
        refuse_directionless(net, names)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rank_stabilized,
        use_dora=settings.dora,
        target_modules="|".join(re.escape(name) for name in names),  # a list is matched by suffix
        modules_to_save=[str(model.classifier_name(net))],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(net, config).eval()


def refuse_directionless(net: nn.Module, names: Sequence[str]) -> None:
    """Raises: ConfigError for a layer with a filter of zeros, which has no direction: DoRA would divide by its norm."""
    for name in names:
        if not net.get_submodule(name).weight.detach().flatten(1).norm(dim=1).all():
            raise ConfigError(
                f"lora.dora: layer '{name}' has a filter of zeros, which has no direction",
                todo="Leave the layer out with lora.targets, or set lora.dora = false.",
            )


def channels_last(adapted: nn.Module) -> nn.Module:
    """The network, in place, with its kernels laid out channels last: convolutions train faster so.

    But for the kernels of DoRA's adapters, which peft views as matrices.
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
    """Training mode for the adapters only: BatchNorm and the backbone's own dropout stay as in eval."""
    adapted.eval()
    for name, module in adapted.named_modules():
        if "lora_dropout" in name:
            module.train()


def quiet_load(net: nn.Module, folder: Path) -> Any:
    """Load an adapter onto `net` (`PeftModel.from_pretrained`), in eval mode.

    Raises: BundleError when a file is damaged, is no LoRA adapter, or its tensors are not those that its settings ask
        for: peft itself passes over a tensor that it does not know.
    """
    peft = _peft()
    config, path = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if read_json(config, dict[str, Any]).get("peft_type") != "LORA":
        raise BundleError("not the settings of a LoRA adapter", where=str(config))
    state, _ = read_safetensors(path)
    with warnings.catch_warnings(), reading(folder, BundleError, "a LoRA adapter of this network"):
        warnings.simplefilter("ignore")  # peft warns that a timm model has no model card
        adapted = peft.PeftModel.from_pretrained(net, str(folder)).eval()
        problem = difference(peft.get_peft_model_state_dict(adapted), state)
    if problem:
        raise BundleError(f"the adapter does not fit its settings: {problem}", where=str(path))
    return adapted


def _peft() -> Any:
    """peft, imported without the lines that torchao writes to standard error on the way."""
    import logging

    logger = logging.getLogger("torch.utils._pytree")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import peft
    finally:
        logger.setLevel(level)
    return peft
