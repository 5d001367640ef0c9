"""Test the app's screens on this machine's JVM with Robolectric: decoding, errors, inference, screenshots.

Uses one JVM per version of Android, because a native library belongs to one class loader, without network access.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from classes import compile_java, compile_kotlin, native_library
from downloads import FOLDER, fetch, fetch_one
from packing import pack
from photos import write_photos
from resources import Linked
from shim import make_shim
from steps import BUILD, CACHE, PACKAGE, PROJECT, BuildError, emptied, files_under, java

from skinedge.publish.android import choose
from skinedge.run.file_card import card_name
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note

SDKS = ("28", "35")
TESTS = PROJECT / "desktop" / "screens"
STAND_INS = PROJECT / "desktop" / "stand-ins"
PICTURES = CACHE / "screens"
ABI = "x86_64"
OPENED = ("java.lang", "java.util", "java.io", "java.net", "java.nio")  # the framework reaches into the JDK


def test_screens(app: Sequence[Path], linked: Linked, bundle: Bundle) -> str:
    """Run the tests on every version and return JUnit's output; screenshots go to .cache/android/screens.

    app: class path of the app; bundle: the run of its model.
    Raises: Unavailable without Robolectric; BuildError when a test fails.
    """
    android = [fetch_one(f"robolectric-{sdk}") for sdk in SDKS]
    if strays := [jar for jar in android if jar.parent != FOLDER]:
        raise BuildError(f"Robolectric's Android must be in {FOLDER}", where=str(strays[0]))
    framework = [stand_ins(), *fetch("robolectric"), *fetch("junit")]
    classpath = [*app, *framework, fetch_one("android")]  # the plain framework last, after Robolectric's own
    tests = compile_kotlin([TESTS], classpath, BUILD / "screen-tests.jar")
    photos = write_photos(bundle, BUILD / "photos")
    settings = config(linked, package(linked, bundle))
    emptied(PICTURES)
    outputs = []
    for sdk in SDKS:
        note(f"screens on Android API {sdk}")
        outputs.append(_junit([tests, settings, *classpath], sdk, photos))
    return "\n".join(outputs)


def stand_ins() -> Path:
    """Compile stand-ins of the few androidx.test classes that Robolectric needs, for tests only."""
    return compile_java(STAND_INS, [fetch_one("android")], BUILD / "stand-ins.jar")


def package(linked: Linked, bundle: Bundle) -> Path:
    """Pack the APK's resources, model and card, without code."""
    model = choose(bundle).path
    added = {f"assets/{name}": bundle.file(name).read_bytes() for name in (model, card_name(model))}
    return pack(linked.package, added).replace(BUILD / "screens.apk")


def config(linked: Linked, apk: Path) -> Path:
    """Write a class path folder with Robolectric's configuration: the paths of the app's resources."""
    folder = emptied(BUILD / "screen-config")
    path = folder / "com" / "android" / "tools" / "test_config.properties"
    path.parent.mkdir(parents=True)
    facts = {
        "android_custom_package": PACKAGE,
        "android_merged_manifest": linked.manifest,
        "android_resource_apk": apk,
    }
    path.write_text("".join(f"{name}={value}\n" for name, value in facts.items()), encoding="utf-8")
    return folder


def _junit(classpath: list[Path], sdk: str, photos: Path) -> str:
    library = native_library(ABI)
    settings = {
        "java.library.path": library.parent,
        "robolectric.enabledSdks": sdk,
        "robolectric.offline": "true",
        "robolectric.dependency.dir": FOLDER,
        "photos": photos,
        "screens": PICTURES,
    }
    flags = [word for name in OPENED for word in ("--add-opens", f"java.base/{name}=ALL-UNNAMED")]
    flags += [f"-D{name}={value}" for name, value in settings.items()]
    env = {**os.environ, "LD_LIBRARY_PATH": str(make_shim(library, BUILD / "shim" / ABI))}
    names = [path.stem for path in files_under(TESTS) if path.stem.endswith("Test")]
    return java(classpath, "org.junit.runner.JUnitCore", *names, memory="1500m", flags=flags, env=env)
