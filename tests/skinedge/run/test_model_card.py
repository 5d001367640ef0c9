"""A model card: its settings are TOML that reproduces the training config; its licence text is complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from examples import manifest

from skinedge.data.licensing import HAM10000
from skinedge.run import model_card
from skinedge.run.config import AugmentSettings, LoraSettings, OptimizerSettings, TrainConfig, load_config


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig(epochs=30, seed=7, precision="bf16", imbalance="focal", domain="clinical"),
        TrainConfig(
            lora=LoraSettings(rank=64, targets=("blocks.*", "conv_head")),
            optimizer=OptimizerSettings(lora_plus=4.0, clip=0.5),
            augment=AugmentSettings(rotate=False, tint=0.2),
            taxonomy={"akiec": "premalignant", "mole, odd": "benign", "Mäl \N{GRINNING FACE}": "benign"},
        ),
    ],
)
def test_the_settings_of_a_card_give_the_same_config(config: TrainConfig, tmp_path: Path) -> None:
    recorded = json.loads(json.dumps(config.to_dict()))  # as in a manifest
    path = tmp_path / "settings.toml"
    path.write_text(model_card.toml(recorded))
    assert load_config(path) == config
    assert (model_card.toml(recorded) == "") == (config == TrainConfig())


def test_a_non_commercial_licence_text_has_its_name_and_the_attribution() -> None:
    text = model_card.license_text(manifest(license="CC-BY-NC-4.0", attribution=HAM10000))
    for part in (
        "Creative Commons Attribution-NonCommercial 4.0 International",
        "(SPDX: CC-BY-NC-4.0)",
        "https://creativecommons.org/licenses/by-nc/4.0/legalcode",
        "Tschandl",
        "No commercial use",
        "not a medical device",
    ):
        assert part in text


def test_the_texts_of_another_licence_and_of_none() -> None:
    other = model_card.license_text(manifest(license="CC0-1.0"))
    assert "(SPDX: CC0-1.0)" in other and "commercial use" not in other and "creativecommons" not in other
    assert "No licence was stated" in model_card.license_text(manifest())


def test_the_licences_of_several_sources_all_apply() -> None:
    text = model_card.license_text(manifest(license="CC-BY-NC-4.0 AND CC0-1.0"))
    for part in ("NonCommercial 4.0 International and CC0-1.0", "by-nc/4.0/legalcode", "No commercial use"):
        assert part in text


def test_the_card_names_each_source_with_its_licence() -> None:
    row = {"kind": "class folders", "domain": "clinical", "labels": ["mel", "nv"], "attribution": ""}
    text = model_card.sources([{"name": "a", "license": "CC0-1.0", **row}, {"name": "b", "license": "", **row}])
    assert "| a | class folders | clinical | mel, nv | CC0-1.0 | - |" in text
    assert "| b | class folders | clinical | mel, nv | not stated | - |" in text
