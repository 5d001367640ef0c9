"""Inputs that several files need: networks, images and reference outputs, each computed once, on first use."""

from __future__ import annotations

import copy
import functools
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import DataError
from skinedge.core.preprocess import Pixels
from skinedge.data.dataset import Sample, read_split
from skinedge.data.loading import load_prepared
from skinedge.run.embedded_metadata import describe
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge_export.candidate_check import Reference, check_network
from skinedge_export.converter import ExportJob
from skinedge_export.graph.weight_swap import GraphCache
from skinedge_export.int8.activation_ranges import ObservedTensors
from skinedge_export.int8.calibration_images import CalibrationSet, choose, load_calibration
from skinedge_export.int8.sensitivity import Layer, ranked
from skinedge_export.recipe import CALIBRATED, CalibrationSettings, ExportRecipe
from skinedge_export.signature import IOSignature

if TYPE_CHECKING:
    from torch import nn

GATE_IMAGES = 512
Method = TypeVar("Method", bound=Callable[..., Any])
Results = Mapping[tuple[Hashable, ...], Any]  # method name and arguments -> result


def _cached(method: Method) -> Method:
    """Call a method of ExportContext once for each combination of arguments; workers receive its results.

    Settings that differ in their range method alone share a result, since neither images nor weights depend on it.
    """

    @functools.wraps(method)
    def first_result(self: ExportContext, *arguments: Hashable) -> Any:
        key = (method.__name__, *map(_without_ranges, arguments))
        if key not in self.results:
            self.results[key] = method(self, *arguments)
        return self.results[key]

    return cast(Method, first_result)


def _without_ranges(argument: Hashable) -> Hashable:
    return replace(argument, ranges="min-max") if isinstance(argument, CalibrationSettings) else argument


class ExportContext:
    """Networks, images and references of one run.

    images: the folder of its images, None if unknown; results: of all cached methods, which another process can take
    over instead of computing them again.
    """

    def __init__(self, bundle: Bundle, images: Path | None, results: Results | None = None) -> None:
        self.bundle = bundle
        self.images = images
        self.results = dict(results or {})
        self._graphs = GraphCache()
        self._observed: dict[tuple[Hashable, ...], ObservedTensors] = defaultdict(ObservedTensors)

    def job(self, recipe: ExportRecipe, form: IOSignature, kept_float: tuple[Layer, ...] = ()) -> ExportJob:
        """Return the input of a converter for one file."""
        description = describe(self.bundle.manifest, recipe.precision, form.contract)
        if recipe.precision not in CALIBRATED:
            return ExportJob(self.network(), description, recipe, form, graphs=self._graphs)
        settings = recipe.calibration
        network, pixels = self.quantizable(settings), self.calibration(settings).pixels
        observed = self._observed[_without_ranges(settings), form, recipe.format]
        return ExportJob(network, description, recipe, form, pixels, kept_float, self._graphs, observed)

    @_cached
    def network(self) -> nn.Module:
        """Return the merged network after checking its weights and outputs."""
        from skinedge.training.merge import load_merged

        network = load_merged(self.bundle)
        check_network(network, self.bundle.manifest.labels, self.bundle.manifest.preprocess.size)
        return network

    def golden(self, form: IOSignature) -> Reference:
        """Return the golden images with the reference outputs of an I/O signature."""
        reference = self._golden()
        return replace(reference, heatmaps=self._golden_heatmaps()) if form.heatmap else reference

    @_cached
    def _golden(self) -> Reference:
        from skinedge.run.golden import load

        golden = load(self.bundle.file("golden.npz"))
        return Reference(golden.pixels, golden.logits)

    @_cached
    def _golden_heatmaps(self) -> NDArray[np.float32]:
        return self._heatmaps(self._golden())

    def val(self, form: IOSignature) -> Reference | None:
        """Return up to GATE_IMAGES validation images with reference outputs; None, with a note, if unavailable."""
        reference = self._val()
        return replace(reference, heatmaps=self._val_heatmaps()) if reference and form.heatmap else reference

    @_cached
    def _val(self) -> Reference | None:
        from skinedge.training.merge import eager_logits

        samples = [sample for sample in self._split if sample.split == "val"]
        if self.images is None or not self.images.is_dir() or not samples:
            why = "the run has none" if not samples else f"no folder {self.images or 'was given with --data'}"
            note(f"gates: golden images only, no validation images ({why})")
            return None
        samples.sort(key=lambda sample: sample.image_id)
        samples = random.Random(0).sample(samples, min(GATE_IMAGES, len(samples)))
        pixels = load_prepared(self.images, samples, self.bundle.manifest.preprocess)
        manifest = self.bundle.manifest
        labels = np.array([manifest.labels.index(sample.label) for sample in samples], dtype=np.int64)
        return Reference(pixels, eager_logits(self.network(), pixels, manifest.preprocess), labels)

    @_cached
    def _val_heatmaps(self) -> NDArray[np.float32] | None:
        reference = self._val()
        return None if reference is None else self._heatmaps(reference)

    def _heatmaps(self, reference: Reference) -> NDArray[np.float32]:
        from skinedge_export.graph.graph import heatmaps

        return heatmaps(self.network(), reference.pixels, self.bundle.manifest.preprocess)

    @_cached
    def cal(self) -> Pixels | None:
        """Return the prepared images of the cal split, None if they are unavailable."""
        samples = [sample for sample in self._split if sample.split == "cal"]
        if self.images is None or not self.images.exists() or not samples:
            return None
        return load_prepared(self.images, samples, self.bundle.manifest.preprocess)

    @_cached
    def calibration(self, settings: CalibrationSettings) -> CalibrationSet:
        """Load the calibration set, training images only; see `skinedge_export.int8.calibration_images`."""
        images = self._required_images()
        return load_calibration(images, choose(self._split, settings), self.bundle.manifest.preprocess)

    @_cached
    def quantizable(self, settings: CalibrationSettings) -> nn.Module:
        """Return the merged network prepared for int8: equalized, and with weights on the int8 grid."""
        from skinedge_export.int8.equalization import equalize
        from skinedge_export.int8.gptq import round_weights

        pixels, rule, network = self.calibration(settings).pixels, self.bundle.manifest.preprocess, self.network()
        if settings.equalize:
            network = equalize(network, pixels, rule)
        if settings.rounding == "covariance":
            note("rounding weights for the calibration images ...")
            network = round_weights(network, pixels, rule)
        return network

    @_cached
    def ranked(self, settings: CalibrationSettings) -> Sequence[tuple[Layer, float]]:
        """Return the layers with their int8 error, worst first; see `skinedge_export.int8.sensitivity`."""
        note("measuring how much int8 hurts each layer ...")
        pixels = self.calibration(settings).pixels
        network = copy.deepcopy(self.quantizable(settings))  # changed meanwhile; a thread may be pickling the original
        return ranked(network, pixels, self.bundle.manifest.preprocess)

    def _required_images(self) -> Path:
        if self.images is None or not self.images.exists():
            raise DataError(
                "int8 needs the training images to calibrate on, and their folder is "
                + ("not known" if self.images is None else "gone"),
                where=str(self.images or self.bundle.root),
                todo="Say where they are with --data DIR, or export without --int8.",
            )
        return self.images

    @cached_property
    def _split(self) -> tuple[Sample, ...]:
        return read_split(self.bundle.file("split.csv"))
