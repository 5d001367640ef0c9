"""Export recipes: conversion settings of one file, read from TOML."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skinedge.core.errors import ConfigError, one_of
from skinedge.core.files import read_regular
from skinedge.core.json_io import TOML_BYTES, build, parse_toml
from skinedge_export.int8.activation_ranges import METHODS

RECIPES = Path(__file__).parent / "recipes"


# int8: weights and activations; int8-mixed: some layers in float; int8-weight, fp16: weights only, computes in float.
PRECISIONS = ("fp32", "int8", "int8-mixed", "int8-weight", "fp16")
CALIBRATED = ("int8", "int8-mixed")


@dataclass(frozen=True)
class CalibrationSettings:
    """Calibration images, and preparation of the network for int8.

    images: largest number of training images, at least 8, spread evenly over the classes; seed: of their choice;
    equalize: give channels equal ranges first (`skinedge_export.int8.equalization`); rounding: of weights,
    'covariance' (see `skinedge_export.int8.gptq`) or 'nearest'; ranges: method for activations (see
    `skinedge_export.int8.activation_ranges`).
    """

    images: int = 128
    seed: int = 0
    equalize: bool = True
    rounding: str = "covariance"
    ranges: str = "min-max"

    def __post_init__(self) -> None:
        one_of("ranges", self.ranges, METHODS)
        one_of("rounding", self.rounding, ("covariance", "nearest"))


@dataclass(frozen=True)
class OnnxOptions:
    """Options of the ONNX converter.

    opset: version of the ONNX operator set; float_ops: node types that stay in float; reduce_range: 7-bit weights;
    activations: 'uint8' (U8S8, for x86) or 'int8' (S8S8, for ARM).
    """

    opset: int = 18
    float_ops: tuple[str, ...] = ("Softmax",)
    reduce_range: bool = False
    activations: str = "uint8"

    def __post_init__(self) -> None:
        one_of("activations", self.activations, ("uint8", "int8"))


@dataclass(frozen=True)
class TfliteOptions:
    """Options of the TFLite converter; float_ops: operations (or INPUT, OUTPUT) that stay in float, by
    ai-edge-quantizer's names.
    """

    float_ops: tuple[str, ...] = ("INPUT", "OUTPUT", "SOFTMAX")


@dataclass(frozen=True)
class ExportRecipe:
    """Conversion settings of one file.

    format: 'onnx', 'tflite' or a plug-in's; precision: one of PRECISIONS;
    calibration: for int8 activations; onnx, tflite: options of that format; sha256: of the TOML text.
    """

    format: str
    precision: str
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    tflite: TfliteOptions = field(default_factory=TfliteOptions)
    sha256: str = ""


def load_recipe(path: Path) -> ExportRecipe:
    """Read a recipe.

    Raises: ConfigError if the file is missing or not TOML, a value has the wrong type, or a key is unknown or unused
        for its format and precision.
    """
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise ConfigError(f"no export recipe '{path.stem}'", where=str(path.parent), todo=f"Known: {known}.")
    text = read_regular(path, TOML_BYTES, ConfigError)
    raw = parse_toml(text, dict[str, Any], str(path))
    _refuse_meaningless(raw, str(path))
    recipe = build(raw, ExportRecipe, str(path), error=ConfigError)
    if recipe.calibration.images < 8:
        raise ConfigError(f"calibration.images is {recipe.calibration.images}; at least 8", where=str(path))
    return replace(recipe, sha256=hashlib.sha256(text).hexdigest())


def _refuse_meaningless(raw: dict[str, Any], where: str) -> None:
    missing = [key for key in ("format", "precision") if key not in raw]
    if missing:
        raise ConfigError(f"recipe lacks '{missing[0]}'", where=where)
    calibrated = {"calibration"} if raw["precision"] in CALIBRATED else set()
    valid = {"format", "precision", str(raw["format"])} | calibrated
    for key in raw:
        if key not in valid:
            raise ConfigError(f"unknown key '{key}'", where=where, todo=f"Valid here: {', '.join(sorted(valid))}.")
