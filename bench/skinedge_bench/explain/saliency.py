"""Who makes the map of an image: the exported file itself, or the gradients of the run's merged network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError, one_of
from skinedge.core.input_format import HEATMAP
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.manifest import MODEL
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import LoadedModel, default_file, exported, open_listed
from skinedge_bench.runtimes import torch_gradcam
from skinedge_bench.runtimes.torch_eager import read_network
from skinedge_bench.runtimes.torch_gradcam import Mapper

CAM = "cam"  # the class activation map that a file itself carries (Zhou et al. 2016)
NAMES = {CAM: "class activation map", "gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++"}


@dataclass(frozen=True)
class Explainer:
    """A model and how its maps are made; mapper: None where the file itself gives them."""

    model: LoadedModel
    method: str
    mapper: Mapper | None = None

    def map(self, pixels: Pixels, index: int, outputs: Outputs) -> NDArray[np.float32]:
        """(H, W) float32, unclipped, of class `index`; outputs: what the model said of pixels (S, S, 3) uint8."""
        if self.mapper is not None:
            return np.asarray(self.mapper(pixels[None], [index])[0])
        if outputs.heatmaps is None:
            raise _no_heatmap(self.model.path)
        return np.asarray(outputs.heatmaps[0, :, :, index])


def of_run(bundle: Bundle, method: str | None) -> Explainer:
    """method: None means Grad-CAM where the run and the installation have what it takes, else a file's own map.

    Raises: ConfigError for an unknown method, or when no file carries a map; BundleError when there is no file, or no
    merged network; MissingDependencyError without torch or grad-cam where gradients were asked for.
    """
    if known(method) is None:
        method = "gradcam" if bundle.has(MODEL) and torch_gradcam.missing() is None else CAM
    if method == CAM:
        return Explainer(_open_with_heatmap(bundle), CAM)
    return of_file(open_listed(bundle, MODEL), method)


def of_file(model: LoadedModel, method: str | None) -> Explainer:
    """method: None means what this file can do.

    Raises: ConfigError for an unknown method or one that the file cannot serve; MissingDependencyError as `of_run`.
    """
    merged = model.path.suffix == ".safetensors"
    method = known(method) or ("gradcam" if merged else CAM)
    if method == CAM:
        if not _has_heatmap(model):
            raise _no_heatmap(model.path)
        return Explainer(model, CAM)
    if not merged:
        raise ConfigError(
            f"{NAMES[method]} needs gradients, which an exported file cannot give",
            where=str(model.path),
            todo="Name the run instead of the file, or ask for the file's own map: --method cam",
        )
    description = ModelDescription.from_json(model.session.metadata[KEY], str(model.path))
    network = read_network(model.path).model
    return Explainer(model, method, torch_gradcam.mapper(network, description.preprocess, method))


def known(method: str | None) -> str | None:
    """The method, if any was named; raises ConfigError for one that there is not."""
    return None if method is None else one_of("method", method, tuple(NAMES))


def _open_with_heatmap(bundle: Bundle) -> LoadedModel:
    """The run's default file if it carries a map, else the first that does."""
    first = default_file(bundle)
    for name in (first, *(entry.path for entry in exported(bundle) if entry.path != first)):
        model = open_listed(bundle, name)
        if _has_heatmap(model):
            return model
    raise _no_heatmap(bundle.root)


def _has_heatmap(model: LoadedModel) -> bool:
    return any(output.name == HEATMAP for output in model.session.outputs)


def _no_heatmap(where: Path) -> ConfigError:
    lacking = torch_gradcam.missing()
    gradients = "" if lacking is None else f", and Grad-CAM needs {lacking}, which is not installed"
    return ConfigError(
        f"no model file here has an output '{HEATMAP}'{gradients}",
        where=str(where),
        todo="Make one that has: skinedge export RUN --heatmap   (or, for Grad-CAM from the merged network: "
        "pip install 'skinedge[explain]')",
    )
