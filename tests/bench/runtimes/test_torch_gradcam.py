"""Grad-CAM against its formula, against the heatmap of an exported file, and with randomized networks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from skinedge.core.errors import ConfigError, MissingDependencyError
from skinedge.core.image_file import load_image
from skinedge.core.input_format import HEATMAP
from skinedge.core.preprocess import Pixels, Preprocess, prepare
from skinedge.network import model
from skinedge.run.run_directory import Bundle
from skinedge.training.merge import load_adapted
from skinedge_bench.runtimes import torch_gradcam
from skinedge_export.graph.graph import pixel_model
from skinedge_export.signature import IOSignature

RULE, LARGE = Preprocess(160), Preprocess(224)
CLASSES = [3, 0, 6]


def random_network(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model.build(name, 7)


def merged(run: Path) -> nn.Module:
    return load_adapted(Bundle.open(run)).merge_and_unload().eval()


def noise(count: int, size: int) -> Pixels:
    """Draw images of random 8 x 8 patches."""
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8).repeat(size // 8, axis=1).repeat(size // 8, axis=2)


def features_and_gradients(
    network: nn.Module, pixels: Pixels, classes: Sequence[int], rule: Preprocess = RULE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last features (N, K, H, W) and their gradients for each image's class."""
    with torch.no_grad():
        features = network.forward_features(next(model.inputs(pixels, rule)))
    features.requires_grad_(True)
    logits = network.forward_head(features)
    score = logits[torch.arange(len(classes)), list(classes)].sum()
    return features.detach(), torch.autograd.grad(score, features)[0]


# the third network has a non-linear layer between pooling and classifier
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "mobilenetv3_small_050"])
def test_both_methods_match_their_papers(name: str) -> None:
    network, pixels = random_network(name), noise(3, 160)
    features, gradients = features_and_gradients(network, pixels, CLASSES)
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    expected = (weights * features).sum(dim=1).numpy() * features.shape[2] * features.shape[3]
    maps = torch_gradcam.mapper(network, RULE, "gradcam")(pixels, CLASSES)
    assert maps.dtype == np.float32 and maps.min() < 0 < maps.max()
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())

    total = features.sum(dim=(2, 3), keepdim=True)
    alpha = gradients**2 / (2 * gradients**2 + total * gradients**3 + 1e-6)  # the library's guard against 0 / 0
    positive = (alpha * gradients.clamp(min=0)).sum(dim=(2, 3), keepdim=True)
    expected = (positive * features).sum(dim=1).numpy()
    maps = torch_gradcam.mapper(random_network(name), RULE, "gradcam++")(pixels, CLASSES)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_maps_do_not_depend_on_the_batch_and_the_network_may_be_frozen() -> None:
    pixels = noise(3, 160)
    compute_maps = torch_gradcam.mapper(random_network("test_efficientnet").requires_grad_(False), RULE, "gradcam")
    batched = compute_maps(pixels, CLASSES)
    pixels.setflags(write=False)  # as Pillow's arrays are
    for index, label in enumerate(CLASSES):
        single = compute_maps(pixels[index : index + 1], [label])[0]
        np.testing.assert_allclose(single, batched[index], rtol=1e-4, atol=1e-5)


def test_gradcam_equals_the_heatmap_of_an_exported_file(trained_run: Path, request: pytest.FixtureRequest) -> None:
    """For a network that ends in pooling and one linear layer: same map, same unit; mean + bias is the logit."""
    network, pixels = merged(trained_run), pictures(request, 7)
    with torch.no_grad():
        outputs = pixel_model(network, LARGE, IOSignature(heatmap=True, logits=True))(torch.tensor(pixels).float())
    logits, heatmaps = outputs["logits"].numpy(), outputs[HEATMAP].numpy()
    classes = logits.argmax(axis=1).tolist()
    expected = heatmaps[np.arange(len(classes)), :, :, classes]
    maps = torch_gradcam.mapper(network, LARGE, "gradcam")(pixels, classes)
    ranks = correlations(maps, expected)
    plus = correlations(torch_gradcam.mapper(network, LARGE, "gradcam++")(pixels, classes), expected)
    print(f"\nrank correlation with the file's map, {len(ranks)} images: Grad-CAM {np.mean(ranks):.6f} ", end="")
    print(f"(worst {min(ranks):.6f}), Grad-CAM++ {np.mean(plus):.3f} (worst {min(plus):.3f})")
    assert expected.shape == maps.shape == (7, 7, 7) and min(ranks) > 0.999
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    summed = maps.mean(axis=(1, 2)) + network.classifier.bias.detach().numpy()[classes]
    np.testing.assert_allclose(summed, logits.max(axis=1), rtol=1e-3, atol=1e-3)


def test_randomized_networks_give_other_maps(trained_run: Path, request: pytest.FixtureRequest) -> None:
    """Adebayo et al. 2018, cascading randomization: an unchanged map would depend on the image only."""
    pixels, randomized = pictures(request, 7), merged(trained_run)
    classes = list(range(7))
    trained = torch_gradcam.mapper(merged(trained_run), LARGE, "gradcam")(pixels, classes)
    assert min(correlations(trained, torch_gradcam.mapper(randomized, LARGE, "gradcam")(pixels, classes))) > 0.999
    parts = {
        "classifier": [randomized.classifier],
        "last convolution": [randomized.conv_head, randomized.bn2],
        "last two blocks": [randomized.blocks[6], randomized.blocks[5]],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part, modules in parts.items():
            for module in (inner for outer in modules for inner in outer.modules()):
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            ranks = correlations(trained, torch_gradcam.mapper(randomized, LARGE, "gradcam")(pixels, classes))
            print(f"\nrank correlation with the trained network's maps, {part} randomized too: {np.mean(ranks):.3f}")
            assert np.mean(ranks) < 0.6, part


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("test_vit", 160, "convolutional"),
        ("test_efficientnet", 32, "single cell"),
        ("swin_tiny_patch4_window7_224", 224, "convolutional"),  # channels last
    ],
)
def test_features_that_are_not_an_image_are_refused(name: str, size: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        torch_gradcam.last_features(random_network(name), size)


def test_an_unknown_method_and_a_missing_package_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network("test_efficientnet")
    with pytest.raises(ConfigError, match=r"(?s)eigencam.*gradcam, gradcam\+\+"):
        torch_gradcam.mapper(network, RULE, "eigencam")
    assert torch_gradcam.missing() is None
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert torch_gradcam.missing() == "pytorch_grad_cam"
    with pytest.raises(MissingDependencyError, match=r"(?s)grad-cam.*\[explain\]"):
        torch_gradcam.mapper(network, RULE, "gradcam")


def correlations(one: np.ndarray, other: np.ndarray) -> list[float]:
    """Return Spearman's rank correlation of each image."""
    return [float(spearmanr(a.ravel(), b.ravel()).statistic) for a, b in zip(one, other, strict=True)]


def pictures(request: pytest.FixtureRequest, count: int) -> Pixels:
    """Return real images if installed, else synthetic images: (N, 224, 224, 3) uint8."""
    try:
        folder: Path = request.getfixturevalue("real_images")
    except pytest.skip.Exception:
        folder = request.getfixturevalue("synthetic_images")
    paths = sorted(folder.rglob("*.jpg"))
    return np.stack([prepare(load_image(path), LARGE.size) for path in paths[:: len(paths) // count][:count]])
