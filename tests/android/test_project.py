"""What stands in two places is the same in both: versions, protocols, colours; and what the core must not know."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from skinedge.core.image_file import MAX_PIXELS
from skinedge_bench.explain.overlay import STEPS
from skinedge_bench.latency.protocol import protocol_names, read_protocol

DEMO = Path(__file__).resolve().parents[2] / "android-demo"
CORE = DEMO / "core" / "src" / "main" / "kotlin" / "org" / "skinedge" / "demo" / "core"
RUNTIME = DEMO / "app" / "src" / "main" / "kotlin" / "org" / "skinedge" / "demo" / "runtime"
CATALOG = tomllib.loads((DEMO / "gradle" / "libs.versions.toml").read_text())


def test_gradle_and_the_offline_build_take_the_same_library() -> None:
    from downloads import pinned

    pins = {artifact.parts[1]: artifact.parts[2] for group in ("tflite", "junit") for artifact in pinned(group)}
    versions = CATALOG["versions"]
    assert pins["tensorflow-lite"] == pins["tensorflow-lite-api"] == versions["tflite"]
    assert pins["junit"] == versions["junit"]
    assert pinned(f"sniffer-api{versions['minSdk']}") and versions["targetSdk"] >= "35"


def test_every_download_is_pinned() -> None:
    from downloads import PINS, pinned

    for group in tomllib.loads(PINS.read_text()):
        for artifact in pinned(group):
            assert re.fullmatch("[0-9a-f]{64}", artifact.sha256), artifact
            assert len(artifact.parts) == 4 and "SNAPSHOT" not in artifact.coordinates, artifact


@pytest.mark.parametrize("folder", [CORE, RUNTIME], ids=lambda folder: folder.name)
def test_the_core_knows_no_android(folder: Path) -> None:
    files = sorted(folder.glob("*.kt"))
    assert files
    for path in files:
        assert not re.search(r"\bandroid[x]?\.(?!graphics\.Bitmap`)", path.read_text()), path


def test_the_manifest_asks_for_no_network() -> None:
    root = ElementTree.parse(DEMO / "app" / "src" / "main" / "AndroidManifest.xml").getroot()
    asked = {
        element.get("{http://schemas.android.com/apk/res/android}name") for element in root.iter("uses-permission")
    }
    assert asked <= {"android.permission.CAMERA"}


def test_the_protocols_are_those_of_bench() -> None:
    text = (CORE / "Benchmark.kt").read_text()
    rows = re.findall(r"^    ([A-Z]+)\((\d+), (\d+), (\d+), ([\d.]+), (\d+)\),$", text, re.MULTILINE)
    assert {row[0].lower() for row in rows} == set(protocol_names())
    for name, *numbers in rows:
        said = read_protocol(name.lower())
        assert list(map(float, numbers)) == [said.warmup, said.block, said.blocks, said.min_seconds, said.headline]


def test_the_limit_of_pixels_is_that_of_python() -> None:
    text = (CORE / "Preparation.kt").read_text()
    assert f"const val MAX_PIXELS = {MAX_PIXELS:_}L" in text


def test_the_colours_are_those_of_explain() -> None:
    found = re.search(r"INFERNO = intArrayOf\((.*?)\)", (CORE / "Heatmap.kt").read_text(), re.DOTALL)
    assert found is not None
    colours = [int(text, 16) for text in re.findall("0x([0-9A-F]{6})", found[1])]
    assert colours == [red << 16 | green << 8 | blue for red, green, blue in STEPS]
