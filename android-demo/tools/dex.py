"""Convert class files to classes.dex without unused code, with R8, or with ProGuard and dx if R8 is unavailable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from classes import libraries
from downloads import fetch, fetch_one
from steps import BUILD, JDK, MIN_SDK, PROJECT, BuildError, Unavailable, emptied, java, tool

from skinedge.core.errors import one_of
from skinedge.system.progress import note

RULES = PROJECT / "app" / "proguard.pro"
DEXERS = ("r8", "proguard")


def dex(own: Sequence[Path], keep: Path, dexer: str | None) -> Path:
    """Write classes.dex of the app's own jars and the library classes that they use; return its path.

    keep: rules for the classes in the manifest; dexer: 'r8' or 'proguard', None: R8 if available.
    Raises: Unavailable if the given dexer is unavailable; BuildError if the code does not fit into one file.
    """
    if dexer is None:
        try:
            return dex(own, keep, "r8")
        except Unavailable as reason:
            note(f"without R8: {reason.what}; ProGuard and dx instead")
            return dex(own, keep, "proguard")
    one_of("dexer", dexer, DEXERS)
    out = emptied(BUILD / "dex")
    (_with_r8 if dexer == "r8" else _with_proguard)(own, keep, out)
    written = sorted(path.name for path in out.glob("*.dex"))  # R8 also copies other files, which the app does not use
    if written != ["classes.dex"]:
        raise BuildError(f"{dexer} wrote {written or 'nothing'}, not one classes.dex")
    return out / "classes.dex"


def _with_r8(own: Sequence[Path], keep: Path, out: Path) -> None:
    java(
        fetch("r8"),
        "com.android.tools.r8.R8",
        *("--release", "--min-api", MIN_SDK, "--output", out),
        *("--lib", _jdk(), "--lib", fetch_one("android")),  # Android's jar lacks many classes of Java
        *("--pg-conf", RULES, "--pg-conf", keep, *own, *libraries()),
        memory="2g",
    )


def _with_proguard(own: Sequence[Path], keep: Path, out: Path) -> None:
    shrunk = BUILD / "shrunk.jar"
    shrunk.unlink(missing_ok=True)
    java_base = _jdk() / "jmods" / "java.base.jmod"
    packed = ":".join(f"{path}(!META-INF/**)" for path in [*own, *libraries()])
    java(
        [*fetch("proguard"), fetch_one("kotlin-stdlib")],
        "proguard.ProGuard",
        *(f"@{RULES}", f"@{keep}", "-injars", packed, "-outjars", shrunk),
        *("-dontnote", "**", "-dontwarn", "**", "-target", "1.7"),  # Kotlin's library has lambdas, unsupported by dx
        *("-libraryjars", fetch_one("android"), "-libraryjars", f"{java_base}(!**.jar;!module-info.class)"),
    )
    # MIN_SDK must stay below 26: dx would write invoke-custom, whose classes phones lack.
    java(
        fetch("dx"),
        "com.android.dx.command.Main",
        *("--dex", f"--min-sdk-version={MIN_SDK}", f"--output={out / 'classes.dex'}", shrunk),
    )


def _jdk() -> Path:
    """Return the home folder of the installed JDK."""
    return Path(os.path.realpath(tool("javac", JDK))).parents[1]
