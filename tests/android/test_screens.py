"""What the tests of the screens left behind: a picture of each in every variant, and what the app tells a computer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from skinedge_bench.devices.phone_app import timed
from skinedge_bench.latency.row import Row

PICTURES = Path(__file__).resolve().parents[2] / ".cache" / "android" / "screens"
if not PICTURES.is_dir():
    pytest.skip("the screens were not drawn: make android-test", allow_module_level=True)

SCREENS = ("start", "camera", "result", "result-end", "settings", "benchmark")
VARIANTS = ("light", "dark", "landscape", "large", "german")
SDKS = (28, 35)


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("screen", SCREENS)
def test_every_screen_was_drawn_in_every_variant(screen: str, sdk: int) -> None:
    drawn = {}
    for variant in VARIANTS:
        with Image.open(PICTURES / f"{screen}-{variant}-{sdk}.png") as picture:
            drawn[variant] = picture.convert("RGB")
    assert {variant: picture.size for variant, picture in drawn.items()} == {
        variant: (1480, 720) if variant == "landscape" else (720, 1480) for variant in VARIANTS
    }
    assert len({picture.tobytes() for picture in drawn.values()}) == len(VARIANTS)
    corner = {variant: sum(picture.getpixel((4, 300))) for variant, picture in drawn.items()}  # type: ignore[arg-type]
    if screen not in ("camera", "result"):  # whose pictures reach the edge
        assert corner["dark"] < 200 < 600 < corner["light"]


@pytest.mark.parametrize("sdk", SDKS)
def test_bench_reads_what_the_app_measured(sdk: int) -> None:
    document = json.loads((PICTURES / f"host-{sdk}.json").read_text())
    templates = [Row(file, "litert", "int8", 1, 1, "0" * 64) for file in ("a.tflite", "b.tflite")]
    found = timed(document, templates, "the app")
    assert [(row.file, row.n) for row in found.rows] == [("a.tflite", 4), ("b.tflite", 4)]
    assert all(row.p50_ms and row.load_ms and row.first_inference_ms for row in found.rows)
    assert found.versions == {"tensorflow-lite": "2.16.1"}
