"""PyTorch eager, fp32, on the CPU: the merged model, the reference of every parity check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core import state_dict
from skinedge.core.errors import BundleError
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.plugins import TensorSpec
from skinedge.stats.metrics import softmax
from skinedge.system.requirements import import_failure
from skinedge_bench.runtimes.input_layout import Layout
from skinedge_bench.runtimes.session import refusing, run_batches


@dataclass(frozen=True)
class Network:
    """A timm model in eval mode, with the description and metadata of its file."""

    model: Any
    description: ModelDescription
    metadata: Mapping[str, str]


class TorchSession:
    """One model.safetensors as a timm model; normalizes with the description's mean and std.

    batch: images per call, -1 for any number.
    """

    partitions: int | None = None
    outside: tuple[str, ...] | None = None

    def __init__(self, network: Network, threads: int, batch: int = -1) -> None:
        import torch

        description = network.description
        self.metadata = network.metadata
        size, classes = description.preprocess.size, len(description.labels)
        self.inputs = (TensorSpec("pixels", (-1, size, size, 3), "uint8"),)
        self.outputs = (TensorSpec("logits", (-1, classes), "float32"),)
        self._layout = Layout(size, batch, True, np.dtype(np.uint8))
        self._threads = threads
        self._model = network.model
        self._mean = torch.tensor(description.preprocess.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(description.preprocess.std).view(1, 3, 1, 1)

    def run(self, pixels: Pixels) -> Outputs:
        """Run the model on prepared images. pixels: (N, S, S, 3) uint8."""
        (logits,) = run_batches(self._layout, pixels, self._call, self.outputs)
        return Outputs(softmax(logits), logits)

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        import torch

        if torch.get_num_threads() != self._threads:  # a setting of the process, not of the session
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            batch = torch.from_numpy(self._layout.arrange(pixels)).float()
            return [self._model((batch - self._mean) / self._std).numpy()]


class TorchRuntime:
    """Runs merged .safetensors files."""

    name = "torch"
    suffixes = (".safetensors",)
    optional = False
    safe_format = True

    def version(self) -> str:
        """See `Runtime.version`."""
        _library("timm")  # import now, so that it does not count as loading time
        return str(_library("torch").__version__)

    def open(self, path: Path, threads: int) -> TorchSession:
        """See `Runtime.open`."""
        return TorchSession(read_network(path), threads)


def read_network(path: Path) -> Network:
    """Read a merged model. Raises: BundleError when the file is not a skinedge model; MissingDependencyError."""
    _library("torch")
    timm = _library("timm")
    _library("safetensors")
    if not path.is_file():
        raise BundleError("no such model file", where=str(path))
    state, metadata = state_dict.read_safetensors(path)
    if KEY not in metadata:
        raise BundleError("the file header does not say which network the weights belong to", where=str(path))
    description = ModelDescription.from_json(metadata[KEY], str(path))
    if not timm.is_model(description.architecture):  # timm looks up other names on a hub
        raise BundleError(f"unknown timm network '{description.architecture}'", where=str(path))
    with refusing("timm", f"build '{description.architecture}' for", str(path)):
        model = timm.create_model(description.architecture, num_classes=len(description.labels))
    state_dict.fill(model, state, str(path))
    return Network(model.eval(), description, metadata)


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise import_failure(error, "train") from None


runtime = TorchRuntime()
