"""Whether every member of Android's framework that the app names exists on the oldest Android that it is for."""

from __future__ import annotations

from pathlib import Path

from downloads import fetch, fetch_one
from steps import MIN_SDK, PROJECT, java

PROGRAM = PROJECT / "desktop" / "Sniff.java"


def check_api(jar: Path) -> None:
    """jar: compiled classes, not shrunk. Raises: BuildError, which names what is missing; Unavailable."""
    java(fetch("sniffer"), str(PROGRAM), fetch_one(f"sniffer-api{MIN_SDK}"), jar)
