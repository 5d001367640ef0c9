"""Write docs/platforms.md, which extras install on which platform and Python: `make platforms`.

uv resolves the requirements of pyproject.toml for each platform, with wheels only, without installing anything. Options
in ARGS: --python 3.14, --platform NAME for some of them, which prints the table and writes nothing.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import SkinedgeError
from skinedge.system.progress import bar

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
DOCUMENT = PROJECT.parent / "docs" / "platforms.md"
UV = Path(sys.executable).with_name("uv")
PLATFORMS = {  # name -> uv's --python-platform
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux aarch64": "aarch64-manylinux_2_28",
    "Linux x86-64, musl": "x86_64-unknown-linux-musl",
    "macOS, Apple silicon": "aarch64-apple-darwin",
    "macOS, Intel": "x86_64-apple-darwin",
    "Windows x64": "x86_64-pc-windows-msvc",
    "Windows ARM64": "aarch64-pc-windows-msvc",
}
MACOS = "14.0"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("", "train", "export", "all")
BUILT = "grad-cam"  # has no wheel for any platform; it is pure Python, and pip builds it
TFLITE = {"": "ai-edge-litert", "export": "litert-torch", "all": "litert-torch"}  # extra -> what .tflite files need
YES, ONNX_ONLY, NO_WHEEL = "yes", "ONNX only", re.compile(r"([\w.-]+?)(?:[<>=!~]\S*)? has no (?:usable )?wheels")
TEXT = f"""# Platforms

Written by `make platforms` on {{date}}: uv resolves the requirements for each platform and Python, with wheels only. It
does not install or run anything: which of these were run is in `docs/log.md`.

- `{YES}`: all packages have wheels. `{ONNX_ONLY}`: .onnx files only: LiteRT, or its converter, has no wheel, and is
  left out. `no`, with the package that has no wheel: pip cannot install this extra.
- Linux needs glibc 2.28 or newer (2018), macOS version {MACOS.partition(".")[0]}. Raspberry Pi OS (64-bit) is Linux
  aarch64.
- `{BUILT}`, of `explain`, has no wheel for any platform: pip builds it.
- A run can be copied: export `.tflite` on Linux x86-64 or an Apple-silicon Mac, and use the files elsewhere.
"""


@dataclass(frozen=True)
class Cell:
    """An extra ('': the base install) on a platform with a Python."""

    platform: str
    extra: str
    python: str


def resolve(cell: Cell, project: Path = PROJECT, uv: Path = UV) -> str:
    """Return YES, ONNX_ONLY or 'no: PACKAGE'. Raises: SkinedgeError if uv fails for another reason, e.g. offline."""
    command = [str(uv), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--no-binary", BUILT, "--python-version", cell.python, "--python-platform", PLATFORMS[cell.platform]]
    command += [str(project), *(["--extra", cell.extra] if cell.extra else [])]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 0:
        needed = TFLITE.get(cell.extra)
        return ONNX_ONLY if needed and f"\n{needed}==" not in f"\n{done.stdout}" else YES
    if match := NO_WHEEL.search(" ".join(done.stderr.split())):
        return f"no: {match[1]}"
    raise SkinedgeError(f"uv could not resolve: {done.stderr.strip()[-500:]}", where=str(cell))


def table(results: dict[Cell, str]) -> str:
    """Return the results as a Markdown table: a row for each platform and extra, a column for each Python."""
    pythons = list(dict.fromkeys(cell.python for cell in results))
    lines = ["| platform | install | " + " | ".join(pythons) + " |", "|---|---|" + "---|" * len(pythons)]
    for platform, extra in dict.fromkeys((cell.platform, cell.extra) for cell in results):
        install = f"`skinedge[{extra}]`" if extra else "`skinedge`"
        cells = [results[Cell(platform, extra, python)] for python in pythons]
        lines.append(f"| {platform} | {install} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Resolve all cells; print the table, and write the document if it is complete."""
    parser = argparse.ArgumentParser(prog="python -m experiments.platforms", description=__doc__)
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS)
    parser.add_argument("--platform", nargs="+", choices=PLATFORMS, default=tuple(PLATFORMS))
    options = parser.parse_args()
    cells = [Cell(*parts) for parts in itertools.product(options.platform, EXTRAS, options.python)]
    results: dict[Cell, str] = {}
    try:
        with ThreadPoolExecutor(4) as pool, bar("resolving", len(cells), "cells") as advance:  # most of it is waiting
            for cell, result in zip(cells, pool.map(resolve, cells), strict=True):
                results[cell] = result
                advance(1)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(results))
    if (tuple(options.platform), tuple(options.python)) == (tuple(PLATFORMS), PYTHONS):
        DOCUMENT.write_text(f"{TEXT.format(date=datetime.date.today())}\n{table(results)}", encoding="utf-8")
        print(f"written: {DOCUMENT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
