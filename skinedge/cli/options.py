"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NEWEST = "newest run under runs/, else the bundled model"
NEWEST_REAL = "newest run on real images under runs/, else the bundled model"

RunArgument = Annotated[Path | None, typer.Argument(metavar="RUN", help=f"Run directory. [default: {NEWEST}]")]
RunOrFileArgument = Annotated[
    Path | None, typer.Argument(metavar="RUN", help=f"Run directory or model file. [default: {NEWEST}]")
]
ImagesArgument = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", metavar="RUN", help=f"Run directory or model file. [default: {NEWEST_REAL}]"),
]
FileOption = Annotated[
    str | None,
    typer.Option("--file", metavar="NAME", help="Model file of the run. [default: the manifest's default file]"),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="NAME",
        help="Output with the class scores of another tool's file. [default: by shape and name]",
    ),
]
DataOption = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of labelled images.")]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", metavar="N", help="Worker processes. [default: one per usable core]")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted command that had the same --out.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
