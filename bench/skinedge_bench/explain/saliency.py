"""Sources of heatmaps: the exported file itself, or the gradients of the run's merged network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError, one_of
from skinedge.core.input_format import HEATMAP
from skinedge.core.installation import pip_install
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.manifest import MODEL
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import LoadedModel, default_file, exported, open_listed, open_model
from skinedge_bench.runtimes import torch_gradcam
from skinedge_bench.runtimes.torch_eager import read_network
from skinedge_bench.runtimes.torch_gradcam import Mapper

CAM = "cam"  # the class activation map that a file outputs (Zhou et al. 2016)
NAMES = {CAM: "class activation map", "gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++"}


@dataclass(frozen=True)
class Explainer:
    """A model and its method of making heatmaps. mapper: None where the file outputs them."""

    model: LoadedModel
    method: str
    mapper: Mapper | None = None

    def map(self, pixels: Pixels, index: int, outputs: Outputs) -> NDArray[np.float32]:
        """Return the heatmap for class `index`: (H, W) float32, unclipped.

        pixels: (S, S, 3) uint8; outputs: of the model on these pixels.
        """
        if self.mapper is not None:
            return np.asarray(self.mapper(pixels[None], [index])[0])
        if outputs.heatmaps is None:
            raise _no_heatmap(self.model.path)
        return np.asarray(outputs.heatmaps[0, :, :, index])


def open_explainer(source: Bundle | Path, file: str | None, method: str | None) -> Explainer:
    """Open the explainer of a run, of its file `file`, or of a model file. Raises: as `of_run` and `of_file`."""
    check_method(method)
    if isinstance(source, Bundle) and file is None:
        return of_run(source, method)
    return of_file(open_model(source, file), method)


def of_run(bundle: Bundle, method: str | None) -> Explainer:
    """Open a run's explainer. method: None means Grad-CAM where run and installation allow it, else a file's own map.

    Raises: ConfigError for an unknown method, or when no file outputs a heatmap; BundleError without a file, or without
    the merged network; MissingDependencyError where the method needs torch or grad-cam and they are not installed.
    """
    if check_method(method) is None:
        method = "gradcam" if bundle.has(MODEL) and torch_gradcam.missing() is None else CAM
    if method == CAM:
        return Explainer(_open_with_heatmap(bundle), CAM)
    return of_file(open_listed(bundle, MODEL), method)


def of_file(model: LoadedModel, method: str | None) -> Explainer:
    """Open a file's explainer. method: None means the one that the file supports.

    Raises: ConfigError for an unknown method or one that the file does not support; MissingDependencyError as `of_run`.
    """
    merged = model.path.suffix == ".safetensors"
    method = check_method(method) or ("gradcam" if merged else CAM)
    if method == CAM:
        if not _has_heatmap(model):
            raise _no_heatmap(model.path)
        return Explainer(model, CAM)
    if not merged:
        raise ConfigError(
            f"{NAMES[method]} needs gradients, which exported files do not have",
            where=str(model.path),
            todo="Name the run instead of the file, or use the heatmap that the file outputs: --method cam",
        )
    description = ModelDescription.from_json(model.session.metadata[KEY], str(model.path))
    network = read_network(model.path).model
    return Explainer(model, method, torch_gradcam.mapper(network, description.preprocess, method))


def check_method(method: str | None) -> str | None:
    """Return the method. Raises: ConfigError for an unknown one."""
    return None if method is None else one_of("method", method, tuple(NAMES))


def _open_with_heatmap(bundle: Bundle) -> LoadedModel:
    """Open the run's default file if it outputs a heatmap, else the first file that does."""
    first = default_file(bundle)
    for name in (first, *(entry.path for entry in exported(bundle) if entry.path != first)):
        model = open_listed(bundle, name)
        if _has_heatmap(model):
            return model
    raise _no_heatmap(bundle.root)


def _has_heatmap(model: LoadedModel) -> bool:
    return any(output.name == HEATMAP for output in model.session.outputs)


def _no_heatmap(where: Path) -> ConfigError:
    missing = torch_gradcam.missing()
    gradients = "" if missing is None else f", and Grad-CAM needs {missing}, which is not installed"
    return ConfigError(
        f"no model file here has an output '{HEATMAP}'{gradients}",
        where=str(where),
        todo="Export one: skinedge export RUN --heatmap   (or, for Grad-CAM from the merged network: "
        f"{pip_install('explain')})",
    )
