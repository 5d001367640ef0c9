"""Class files to classes.dex, without what the app does not use: by R8, or ProGuard and dx where R8 cannot be had."""

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
    """classes.dex of the app's own jars and what they use.

    keep: rules for what the manifest names; dexer: 'r8' or 'proguard', None: R8 if it can be had.
    Raises: Unavailable for a named one that cannot be had; BuildError when there is more than one file's worth.
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
    found = sorted(path.name for path in out.glob("*.dex"))  # R8 also copies what is no class, which no app reads
    if found != ["classes.dex"]:
        raise BuildError(f"{dexer} wrote {found or 'nothing'}, not one classes.dex")
    return out / "classes.dex"


def _with_r8(own: Sequence[Path], keep: Path, out: Path) -> None:
    java(
        fetch("r8"),
        "com.android.tools.r8.R8",
        *("--release", "--min-api", MIN_SDK, "--output", out),
        *("--lib", _jdk(), "--lib", fetch_one("android")),  # Android's jar has few of Java's own classes
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
        *("-dontnote", "**", "-dontwarn", "**", "-target", "1.7"),  # Kotlin's library has lambdas that dx knows not
        *("-libraryjars", fetch_one("android"), "-libraryjars", f"{java_base}(!**.jar;!module-info.class)"),
    )
    # Never 26 or more: dx would write invoke-custom, for which phones lack the classes.
    java(
        fetch("dx"),
        "com.android.dx.command.Main",
        *("--dex", f"--min-sdk-version={MIN_SDK}", f"--output={out / 'classes.dex'}", shrunk),
    )


def _jdk() -> Path:
    """Home of the JDK whose tools are installed."""
    return Path(os.path.realpath(tool("javac", JDK))).parents[1]
