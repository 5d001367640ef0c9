"""Common parts of the runtimes' sessions: batching, errors, and the interpretation of outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import BundleError, ConfigError, SkinedgeError
from skinedge.core.input_format import HEATMAP, LOGITS, PROBABILITIES
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.class_order import label_lines
from skinedge.run.embedded_metadata import KEY
from skinedge.run.file_trial import FREE_SIDE
from skinedge.run.plugins import Runtime, Session, TensorSpec
from skinedge_bench.runtimes import onnx_graph
from skinedge_bench.runtimes.input_layout import Layout
from skinedge_bench.runtimes.output_format import Output, OutputFormat, choose, format_of

LABELS = "labels"  # key of the label list in a file's metadata


@contextlib.contextmanager
def refusing(runtime: str, action: str, where: str) -> Iterator[None]:
    """Convert any exception of a runtime to a BundleError with its first line; SkinedgeErrors pass through."""
    try:
        yield
    except SkinedgeError:
        raise
    except Exception as error:  # C++ exceptions have no common base, and damaged files can cause any of Python's
        reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
        raise BundleError(f"{runtime} cannot {action} this file ({reason[:200]})", where=where) from None


def check_suffix(path: Path) -> None:
    """Check that a model file is not named like one of another format. Raises: ConfigError."""
    with path.open("rb") as stream:
        is_tflite = stream.read(8)[4:] == b"TFL3"
    actual = ".tflite" if is_tflite else path.suffix
    if path.suffix == ".tflite" and not is_tflite:
        with contextlib.suppress(ValueError):
            actual = ".onnx" if onnx_graph.nodes(path.read_bytes()) else path.suffix
    if actual != path.suffix:
        todo = f"Rename it to {path.with_suffix(actual).name}."
        raise ConfigError(
            f"this is an {actual[1:].upper()} file with the suffix {path.suffix}", where=str(path), todo=todo
        )


def run_batches(
    layout: Layout, pixels: Pixels, call: Callable[[Pixels], Sequence[NDArray[Any]]], outputs: Sequence[TensorSpec]
) -> list[NDArray[Any]]:
    """Run `call` on (N, S, S, 3) uint8 in batches; return one array per output, (N, ...) float32.

    Raises: ValueError for an output without a row per image.
    """
    parts: list[list[NDArray[Any]]] = [[] for _ in outputs]
    for batch, count in layout.batches(pixels):
        for arrays, array in zip(parts, call(batch), strict=True):
            if array.shape[:1] != (len(batch),):
                raise ValueError(f"an output of shape {array.shape} for {len(batch)} images")
            arrays.append(array[:count])
    return [
        np.concatenate(arrays).astype(np.float32)
        if arrays
        else np.zeros((0, *(max(side, 0) for side in spec.shape[1:])), np.float32)
        for arrays, spec in zip(parts, outputs, strict=True)
    ]


def probe_images(size: int) -> Pixels:
    """Return images that show the kind of a third-party file's scores: (8, S, S, 3) uint8; size: -1 for any."""
    side = size if size > 0 else FREE_SIDE
    images = np.random.default_rng(0).integers(0, 256, (8, side, side, 3)).astype(np.uint8)
    images[0], images[1] = 0, 255
    for channel in range(3):
        images[2 + channel] = 0
        images[2 + channel, ..., channel] = 255
    return images


def own_names(metadata: Mapping[str, str], names: Sequence[str], where: str) -> list[str] | None:
    """Return the output names of a skinedge file, in order; None for a third-party file.

    Raises: ConfigError for a skinedge file without probabilities.
    """
    if KEY not in metadata:
        return None
    if PROBABILITIES not in names:
        raise ConfigError(f"no output '{PROBABILITIES}'; it has {', '.join(names)}", where=where)
    return [name for name in (PROBABILITIES, LOGITS, HEATMAP) if name in names]


def label_list(metadata: Mapping[str, str], where: str) -> tuple[str, ...] | None:
    """Return the labels that a third-party file lists, None without a list. Raises: ConfigError."""
    if LABELS not in metadata:
        return None
    try:
        return label_lines(metadata[LABELS])
    except ValueError as error:
        raise ConfigError(f"the file's label list cannot be read ({error})", where=where) from None


class FileSession:
    """Base class of the sessions of model files; subclasses implement `_call`, and `_described` for foreign files.

    A skinedge file has named outputs. The scores of a third-party file have the `format` that `use` sets; without it,
    the first run finds the format, which takes inferences. notes: what a third-party file asks for and is not done.
    """

    partitions: int | None = None
    outside: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    runtime = "the runtime"  # name in errors

    def __init__(
        self,
        layout: Layout,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        metadata: Mapping[str, str],
        where: str,
    ) -> None:
        self.inputs, self.outputs, self.metadata = inputs, outputs, metadata
        specs = {spec.name: spec for spec in outputs}
        self.layout, self._where = layout, where
        self._names = own_names(metadata, list(specs), where)
        self._selected = [specs[name] for name in self._names or specs]
        if self._names is not None and len(self._selected[0].shape) != 2:
            shape = list(self._selected[0].shape)
            raise ConfigError(f"output '{PROBABILITIES}' has shape {shape}; a classifier gives (N, C)", where=where)
        self._format: OutputFormat | None = None

    def run(self, pixels: Pixels) -> Outputs:
        """Run the model on prepared images. pixels: (N, S, S, 3) uint8."""
        if self._names is None:
            return self.output_format().outputs(self.scores(pixels))
        outputs = dict(zip(self._names, self._arrays(pixels), strict=True))
        self._check_shape(outputs[PROBABILITIES], len(pixels), self._selected[0].shape[1])
        return Outputs(outputs[PROBABILITIES], outputs.get(LOGITS), outputs.get(HEATMAP))

    def scores(self, pixels: Pixels) -> NDArray[Any]:
        """Return the first output of a skinedge file, or the class scores of another: (N, C) float32."""
        if self._names is not None:
            return self._arrays(pixels)[0]
        columns = self.output_format().columns
        scores = self._arrays(pixels)[0]
        if scores.size == len(pixels) * columns:
            scores = scores.reshape(len(pixels), columns)
        self._check_shape(scores, len(pixels), columns)
        return scores

    def output_format(self, wanted: str | None = None) -> OutputFormat:
        """Return the format of a third-party file's scores. wanted: name of the output, if the user chose it.

        Raises: ConfigError if no output can be class scores, or several can; BundleError as `run`.
        """
        if self._format is None or wanted is not None:
            outputs = self._described()
            labels = label_list(self.metadata, self._where)
            chosen = choose(outputs, None if labels is None else len(labels), wanted, self._where)
            self._selected = [chosen.spec]
            probes = probe_images(self.layout.size)
            scores = self._arrays(probes)[0].reshape(len(probes), -1)
            self._format = format_of(chosen, outputs, scores, self._where)
        return self._format

    def use(self, output_format: OutputFormat) -> None:
        """Read the scores in a format that another session of this file has found."""
        self._format = output_format
        self._selected = [spec for spec in self.outputs if spec.name == output_format.name]

    def try_out(self, pixels: Pixels) -> None:
        """Run the model on one batch, whatever its outputs are. Raises: BundleError when the runtime fails."""
        with refusing(self.runtime, "run", self._where):
            for batch, _ in self.layout.batches(pixels):
                self._call(batch)

    def _arrays(self, pixels: Pixels) -> list[NDArray[Any]]:
        """Return the selected outputs. Raises: BundleError when the runtime fails."""
        with refusing(self.runtime, "run", self._where):
            return run_batches(self.layout, pixels, self._call, self._selected)

    def _check_shape(self, scores: NDArray[Any], images: int, classes: int) -> None:
        """Check that scores are (images, classes), -1 for any number. Raises: BundleError otherwise."""
        if scores.ndim != 2 or len(scores) != images or classes not in (-1, scores.shape[1]):
            what = f"{self.runtime} cannot run this file (scores of shape {scores.shape} for {images} images)"
            raise BundleError(what, where=self._where)

    def _described(self) -> Sequence[Output]:
        """Describe the outputs of a third-party file."""
        return [Output(spec) for spec in self.outputs]

    def _call(self, pixels: Pixels) -> list[NDArray[Any]]:
        """Return the outputs of one call, in the order of `_selected`."""
        raise NotImplementedError


def open_as(runtime: Runtime, path: Path, threads: int, output_format: OutputFormat | None) -> Session:
    """Open a file in a runtime. output_format: of a third-party file's scores, if known. Raises: as `Runtime.open`."""
    session = runtime.open(path, threads)
    if output_format is not None and isinstance(session, FileSession):
        session.use(output_format)
    return session
