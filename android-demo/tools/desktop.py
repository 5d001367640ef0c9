"""Test the app's classes on this machine's JVM with the APK's TFLite library for x86_64: `make android-test`.

Needs Java 17, Maven, gcc and binutils, and aapt2, because the tests use exactly the classes of the APK.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from classes import compile_app, compile_kotlin, compile_resources_class, libraries, native_library
from downloads import fetch
from oracle import write_oracle
from resources import link
from screens import test_screens
from shim import make_shim
from steps import BUILD, JDK, PROJECT, Unavailable, files_under, run, tool

from skinedge.core.errors import SkinedgeError
from skinedge.publish import bundled_model
from skinedge.publish.android import choose

TESTS = (PROJECT / "core" / "src" / "test" / "kotlin", PROJECT / "desktop" / "src")
ABI = "x86_64"


def test() -> str:
    """Run all desktop tests and return JUnit's output.

    Raises: Unavailable on another machine, without a tool or without a shipped model; BuildError when a test fails.
    """
    if platform.machine() != ABI:
        raise Unavailable(f"the desktop tests run on {ABI} only, this is {platform.machine()}")
    bundle = bundled_model.find()
    if bundle is None:
        raise Unavailable("no model ships with this package, so there are no golden images to replay")
    linked = link()
    r_jar = compile_resources_class(linked.generated)
    app = [compile_app(r_jar), *libraries()]
    classpath = [*app, *fetch("junit")]
    tests = compile_kotlin(TESTS, classpath, BUILD / "tests.jar")
    oracle = write_oracle(bundle, choose(bundle).path, BUILD / "oracle")
    output = _junit([tests, *classpath], oracle)
    try:
        return output + test_screens([*app, r_jar], linked, bundle)
    except Unavailable as reason:
        return f"{output}\nskipped: tests of the screens: {reason}"


def _junit(classpath: list[Path], oracle: Path) -> str:
    library = native_library(ABI)
    shim = make_shim(library, BUILD / "shim" / ABI)
    joined = ":".join(str(path) for path in classpath)
    properties = [f"-Djava.library.path={library.parent}", f"-Doracle={oracle}"]
    command = [
        tool("java", JDK),
        "-Xmx1g",
        *properties,
        "-cp",
        joined,
        "org.junit.runner.JUnitCore",
    ]
    return run([*command, *names()], env={**os.environ, "LD_LIBRARY_PATH": str(shim)})


def names() -> list[str]:
    """Return the names of the test classes: package from the folder, class from the file's name."""
    paths = [path.relative_to(folder) for folder in TESTS for path in files_under(folder)]
    return [".".join(path.with_suffix("").parts) for path in paths if path.stem.endswith("Test")]


def main() -> None:
    try:
        print(test())
    except Unavailable as reason:
        print(f"skipped: {reason}")
    except SkinedgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
