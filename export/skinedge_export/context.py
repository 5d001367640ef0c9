"""What several files need: networks, images and what PyTorch says of them, each made once and only when asked for."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skinedge.core.errors import DataError
from skinedge.core.preprocess import Pixels
from skinedge.data.dataset import Sample, read_split
from skinedge.data.loading import load_prepared
from skinedge.run.embedded_metadata import describe
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge_export.candidate_check import Reference, check_network
from skinedge_export.converter import ExportJob
from skinedge_export.int8.calibration_images import CalibrationSet, choose, load_calibration
from skinedge_export.int8.sensitivity import Layer, ranked
from skinedge_export.recipe import CALIBRATED, CalibrationSettings, ExportRecipe
from skinedge_export.signature import IOSignature

if TYPE_CHECKING:
    from torch import nn

GATE_IMAGES = 512


class ExportContext:
    """Of one run. images: the folder of its images, None where unknown; made: what was made so far, each under a key:
    another process that takes it need not make it again.
    """

    def __init__(self, bundle: Bundle, images: Path | None) -> None:
        self.bundle = bundle
        self.images = images
        self._size = bundle.manifest.preprocess.size
        self.made: dict[Any, Any] = {}
        self._shared: dict[Any, dict[str, Any]] = {}

    def take(self, made: Mapping[Any, Any]) -> None:
        """What another process made of the same run and images."""
        self.made.update(made)

    def job(self, recipe: ExportRecipe, form: IOSignature, kept: tuple[Layer, ...] = ()) -> ExportJob:
        """Everything that a converter needs for one file."""
        description = describe(self.bundle.manifest, recipe.precision, form.contract)
        traces = self._shared.setdefault(form, {})
        if recipe.precision not in CALIBRATED:
            scratch = self._shared.setdefault(("float", form, recipe.format), {})
            return ExportJob(self.network, description, recipe, form, scratch=scratch, traces=traces)
        settings = _images_and_weights(recipe.calibration)
        scratch = self._shared.setdefault((settings, form, recipe.format), {})
        network, pixels = self.quantizable(settings), self.calibration(settings).pixels
        return ExportJob(network, description, recipe, form, pixels, kept, scratch, traces)

    @property
    def network(self) -> nn.Module:
        """The merged network, after its weights and outputs were checked."""
        return self._once("network", self._network)

    def _network(self) -> nn.Module:
        from skinedge.training.merge import load_merged

        network = load_merged(self.bundle)
        check_network(network, self.bundle.manifest.labels, self._size)
        return network

    def golden(self, form: IOSignature) -> Reference:
        """The golden images, with what the form's outputs should be."""
        from skinedge.run.golden import load

        golden = self._once("golden", lambda: load(self.bundle.file("golden.npz")))
        return self._with_maps(Reference(golden.pixels, golden.logits), form, "golden")

    def val(self, form: IOSignature) -> Reference | None:
        """Up to GATE_IMAGES validation images, None (said on screen) where the images are not there."""
        val: Reference | None = self._once("val", self._val)
        return None if val is None else self._with_maps(val, form, "val")

    def _val(self) -> Reference | None:
        from skinedge.training.merge import eager_logits

        chosen = [sample for sample in self._split if sample.split == "val"]
        if self.images is None or not self.images.is_dir() or not chosen:
            why = "the run has none" if not chosen else f"no folder {self.images or 'was given with --data'}"
            note(f"gates: golden images only, no validation images ({why})")
            return None
        chosen.sort(key=lambda sample: sample.image_id)
        chosen = random.Random(0).sample(chosen, min(GATE_IMAGES, len(chosen)))
        pixels = load_prepared(self.images, chosen, self._size)
        manifest = self.bundle.manifest
        labels = np.array([manifest.labels.index(sample.label) for sample in chosen], dtype=np.int64)
        return Reference(pixels, eager_logits(self.network, pixels, manifest.preprocess), labels)

    def _with_maps(self, reference: Reference, form: IOSignature, name: str) -> Reference:
        from skinedge_export.graph.graph import heatmaps

        if not form.heatmap:
            return reference
        rule = self.bundle.manifest.preprocess
        maps = self._once(("maps", name), lambda: heatmaps(self.network, reference.pixels, rule))
        return replace(reference, heatmaps=maps)

    def cal(self) -> Pixels | None:
        """The prepared images of the cal split, None where they are not there."""
        pixels: Pixels | None = self._once("cal", self._cal)
        return pixels

    def _cal(self) -> Pixels | None:
        samples = [sample for sample in self._split if sample.split == "cal"]
        if self.images is None or not self.images.exists() or not samples:
            return None
        return load_prepared(self.images, samples, self._size)

    def calibration(self, settings: CalibrationSettings) -> CalibrationSet:
        """Training images only; see `skinedge_export.int8.calibration_images`."""
        found: CalibrationSet = self._once(
            ("calibration", _images_and_weights(settings)), lambda: self._calibration(settings)
        )
        return found

    def _calibration(self, settings: CalibrationSettings) -> CalibrationSet:
        images = self._required_images()
        return load_calibration(images, choose(self._split, settings), self._size)

    def quantizable(self, settings: CalibrationSettings) -> nn.Module:
        """The merged network as int8 takes it best: equalized, and with weights on the int8 grid."""
        return self._once(("quantizable", _images_and_weights(settings)), lambda: self._quantizable(settings))

    def _quantizable(self, settings: CalibrationSettings) -> nn.Module:
        from skinedge_export.int8.equalization import equalize
        from skinedge_export.int8.gptq import round_weights

        pixels, rule, network = self.calibration(settings).pixels, self.bundle.manifest.preprocess, self.network
        if settings.equalize:
            network = equalize(network, pixels, rule)
        if settings.rounding == "covariance":
            note("rounding weights for the calibration images ...")
            network = round_weights(network, pixels, rule)
        return network

    def ranked(self, settings: CalibrationSettings) -> Sequence[tuple[Layer, float]]:
        """The layers, the one that int8 hurts most first."""

        def measure() -> Sequence[tuple[Layer, float]]:
            note("measuring how much int8 hurts each layer ...")
            pixels = self.calibration(settings).pixels
            network = copy.deepcopy(self.quantizable(settings))  # changed meanwhile, and maybe on its way elsewhere
            return ranked(network, pixels, self.bundle.manifest.preprocess)

        found: Sequence[tuple[Layer, float]] = self._once(("ranked", _images_and_weights(settings)), measure)
        return found

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

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


def _images_and_weights(settings: CalibrationSettings) -> CalibrationSettings:
    """The settings without the choice of ranges, which decides neither."""
    return replace(settings, ranges="min-max")
