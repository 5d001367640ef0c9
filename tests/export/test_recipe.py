from __future__ import annotations

from pathlib import Path

import pytest

from skinedge.core.errors import ConfigError
from skinedge_export.formats.onnx import convert as onnx_convert
from skinedge_export.formats.tflite import convert as tflite_convert
from skinedge_export.recipe import RECIPES, load_recipe


def test_every_packaged_recipe_loads_and_is_named_after_its_content() -> None:
    found = {path.stem: load_recipe(path) for path in RECIPES.glob("*.toml")}
    ours = [
        f"{format}-{precision}"
        for format in ("onnx", "tflite")
        for precision in ("fp16", "fp32", "int8", "int8-weight")
    ]
    assert {*ours, "onnx-int8-arm"} <= set(found)
    assert all(
        name.removesuffix("-arm") in (f"{recipe.format}-{recipe.precision}", f"onnx2tf-{recipe.precision}")
        for name, recipe in found.items()
    )


def test_int8_keeps_the_operations_after_the_last_layer_in_float() -> None:
    assert tflite_convert.converter.recipe("int8").tflite.float_ops == ("INPUT", "OUTPUT", "SOFTMAX")
    assert onnx_convert.converter.recipe("int8").onnx.float_ops == ("Softmax",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('format = "onnx"\nprecision = "fp32"\nopsett = 18\n', "unknown key 'opsett'"),
        ('format = "onnx"\nprecision = "fp32"\n[onnx]\nopsett = 18\n', "unknown key 'onnx.opsett'"),
        ('format = "onnx"\nprecision = "fp32"\n[calibration]\nimages = 9\n', "unknown key 'calibration'"),
        ('format = "onnx"\nprecision = "int8"\n[tflite]\nfloat_ops = []\n', "unknown key 'tflite'"),
        ('format = "onnx"\nprecision = "int8"\n[calibration]\nimages = 7\n', "at least 8"),
        ('format = "onnx"\nprecision = "int8"\n[calibration]\nimages = "many"\n', "calibration.images"),
        ('format = "onnx"\n', "lacks 'precision'"),
        ("format = \n", "not valid TOML"),
    ],
)
def test_a_bad_recipe_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_recipe(path)


def test_an_unknown_precision_lists_the_known_recipes() -> None:
    with pytest.raises(ConfigError, match="onnx-int8"):
        onnx_convert.converter.recipe("int4")


def test_the_hash_follows_the_text(tmp_path: Path) -> None:
    text = (RECIPES / "onnx-int8.toml").read_text()
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    before = load_recipe(path).sha256
    path.write_text(text.replace("seed = 0", "seed = 1"))
    assert load_recipe(path).sha256 != before
