"""Compile and link resources and manifest with aapt2 into a package without code and model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from downloads import fetch_one
from steps import BUILD, MIN_SDK, PACKAGE, PROJECT, TARGET_SDK, emptied, run, tool

MAIN = PROJECT / "app" / "src" / "main"
ANDROID = "http://schemas.android.com/apk/res/android"
VERSION = "0.1.0"


@dataclass(frozen=True)
class Linked:
    """The output of aapt2.

    package: APK without code; generated: folder with R.java; keep: shrinker rules for the classes in the manifest and
    layouts; manifest: the linked manifest.
    """

    package: Path
    generated: Path
    keep: Path
    manifest: Path


def link() -> Linked:
    """Compile and link the app's resources. Raises: Unavailable without aapt2; BuildError for invalid resources."""
    aapt2 = tool("aapt2", "aapt")
    folder = emptied(BUILD / "resources")
    linked = Linked(folder / "base.apk", folder / "generated", folder / "keep.pro", folder / "AndroidManifest.xml")
    complete_manifest(MAIN / "AndroidManifest.xml", linked.manifest)
    compiled = folder / "compiled.zip"
    run([aapt2, "compile", "--dir", MAIN / "res", "-o", compiled])
    run(
        [
            *(aapt2, "link", "-o", linked.package, "-I", fetch_one("android-resources")),
            *("--manifest", linked.manifest, "--java", linked.generated, "--proguard", linked.keep),
            *("--min-sdk-version", MIN_SDK, "--target-sdk-version", TARGET_SDK),
            *("--version-code", "1", "--version-name", VERSION),
            *("--debug-mode", compiled),  # gives `skinedge bench --adb` access to the app's folder
        ]
    )
    return linked


def complete_manifest(source: Path, out: Path) -> None:
    """Write the manifest with the package and the SDK levels, which Gradle would add."""
    ElementTree.register_namespace("android", ANDROID)
    tree = ElementTree.parse(source)
    root = tree.getroot()
    root.set("package", PACKAGE)
    levels = {"minSdkVersion": MIN_SDK, "targetSdkVersion": TARGET_SDK}
    root.insert(0, ElementTree.Element("uses-sdk", {f"{{{ANDROID}}}{name}": level for name, level in levels.items()}))
    tree.write(out, encoding="utf-8", xml_declaration=True)
