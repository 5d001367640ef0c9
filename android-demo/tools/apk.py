"""Build the app as an installable APK without Gradle, the Android SDK or Google's Maven: `make apk`.

Needs Java 17, Maven, and Debian's aapt and apksigner; everything else is downloaded once and verified by hash.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from classes import compile_app, compile_resources_class, native_library
from dex import DEXERS, dex
from elf import relaid
from packing import pack, sign
from resources import MAIN, link
from steps import CACHE, Unavailable

from skinedge.core.errors import ConfigError, SkinedgeError, one_of
from skinedge.publish import bundled_model
from skinedge.publish.android import Pair, copy_model, installed
from skinedge.system.progress import note

OUT = CACHE / "skinedge-demo.apk"
ABIS = ("arm64-v8a", "armeabi-v7a", "x86_64")
PAGES_OF_16_KIB = ("arm64-v8a",)  # 32-bit systems have 4 KiB pages; x86_64's library cannot be relaid


def build(abis: Sequence[str], dexer: str | None = None, out: Path = OUT) -> Path:
    """Build, sign and return the APK.

    Raises: ConfigError for an unknown ABI or dexer; Unavailable without a tool; BuildError for a step that failed.
    """
    for abi in abis:
        one_of("ABI", abi, ABIS)
    linked = link()
    r_jar = compile_resources_class(linked.generated)
    app = compile_app(r_jar)
    code = dex([app, r_jar], linked.keep, dexer)
    added = {"classes.dex": code.read_bytes(), **assets(), **libraries(abis)}
    return sign(pack(linked.package, added), out)


def assets() -> dict[str, bytes]:
    """Return the model and its card: those from `skinedge android`, else the model that ships with skinedge."""
    pair = installed(MAIN / "assets") or shipped_pair()
    note(f"model: {pair.model.name}")
    return {f"assets/{path.name}": path.read_bytes() for path in (pair.model, pair.card)}


def shipped_pair() -> Pair:
    """Return the shipped model's files for an app. Raises: ConfigError if this package has none."""
    bundle = bundled_model.find()
    if bundle is None:
        raise ConfigError("no model in the app, and none ships with skinedge", todo="skinedge android --model RUN")
    return copy_model(bundle, CACHE / "shipped-assets")


def libraries(abis: Sequence[str]) -> dict[str, bytes]:
    """Return the native library of each ABI: name in the APK -> content."""
    contents = {}
    for abi in abis:
        library = native_library(abi)
        content = library.read_bytes()
        contents[f"lib/{abi}/{library.name}"] = relaid(content) if abi in PAGES_OF_16_KIB else content
    return contents


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the demo's APK, signed with a debug key.")
    parser.add_argument("--abi", nargs="+", default=["arm64-v8a"], metavar="ABI", help=f"some of: {', '.join(ABIS)}")
    parser.add_argument("--dexer", choices=DEXERS, help="[default: R8 if available, else ProGuard and dx]")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE")
    options = parser.parse_args()
    options.out.unlink(missing_ok=True)  # a failed build leaves no older APK
    try:
        out = build(options.abi, options.dexer, options.out)
    except Unavailable as reason:
        print(f"skipped: {reason}")
        return
    except SkinedgeError as error:
        sys.exit(f"error: {error}")
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {', '.join(options.abi)}")


if __name__ == "__main__":
    main()
