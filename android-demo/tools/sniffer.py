"""Check that every member of Android's framework that the app uses exists on the oldest supported Android."""

from __future__ import annotations

from pathlib import Path

from downloads import fetch, fetch_one
from steps import MIN_SDK, PROJECT, java

PROGRAM = PROJECT / "desktop" / "Sniff.java"


def check_api(jar: Path) -> None:
    """Check a jar of compiled classes, before shrinking. Raises: BuildError that names missing members; Unavailable."""
    java(fetch("sniffer"), str(PROGRAM), fetch_one(f"sniffer-api{MIN_SDK}"), jar)
