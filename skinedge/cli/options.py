"""Arguments and options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from skinedge.data.read_options import ReadOptions

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


def _check_data(data: Path | None) -> Path | None:
    """Check the folder before the command imports anything. Raises: DataError."""
    if data is not None and not data.is_dir():
        from skinedge.data.readers import check_folder

        check_folder(data)
    return data


DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", callback=_check_data, help="Folder of labelled images.")
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", metavar="N", help="Worker processes. [default: one per usable core]")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted command that had the same --out.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
READING = "How to read the folder of images"


@dataclass(frozen=True)
class TableOptions:
    """Choice of the table that labels a folder's images, and of its columns."""

    table: Annotated[
        str | None,
        typer.Option(
            "--table",
            metavar="FILE",
            help="Table of the labels, where several could hold them. [default: found by its columns]",
            rich_help_panel=READING,
        ),
    ] = None
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="ROLE=COLUMN,...",
            help="Columns with unknown names, by role: image, label, lesion, patient, age, sex, site, ...",
            rich_help_panel=READING,
        ),
    ] = None

    def reading(self, plan: Path | None = None) -> ReadOptions:
        """Return the choices. Raises: ConfigError for columns in another form."""
        from skinedge.data.columns import parse_columns
        from skinedge.data.read_options import ReadOptions

        return ReadOptions(self.table or "", {} if self.columns is None else parse_columns(self.columns), plan)

    def arguments(self) -> list[str]:
        """Return the options as arguments of a command line."""
        pairs = (("--table", self.table), ("--columns", self.columns))
        return [argument for option, value in pairs if value is not None for argument in (option, value)]


@dataclass(frozen=True)
class FolderOptions(TableOptions):
    """How to read a folder of labelled images."""

    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="FILE.csv",
            help="Leave out the images that this plan of `skinedge data clean` leaves out.",
            rich_help_panel=READING,
        ),
    ] = None

    def options(self) -> ReadOptions:
        """Return the choices. Raises: as `reading`."""
        return self.reading(self.plan)
