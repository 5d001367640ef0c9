"""Arguments and options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.core.errors import ConfigError

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


def _check_folders(data: list[Path] | None) -> list[Path] | None:
    return data and [_check_data(path) or path for path in data]


FoldersOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        metavar="DIR",
        callback=_check_folders,
        help="Folder of labelled images; several with --data A --data B.",
    ),
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

    label_map: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FILE.toml",
            help="Classes, domain and licence of the folder, for a model with other classes. Of several folders: "
            "NAME=FILE.toml, once for each.",
            rich_help_panel=READING,
        ),
    ] = None

    def reading(self, plan: Path | None = None) -> ReadOptions:
        """Return the choices for one folder. Raises: ConfigError for columns in another form, or several maps."""
        from skinedge.data.columns import parse_columns
        from skinedge.data.read_options import ReadOptions
        from skinedge.data.sources.label_map import read_map

        if len(self.label_map or []) > 1:
            raise ConfigError("several --map for one folder", todo="Give one: --map FILE.toml")
        columns = {} if self.columns is None else parse_columns(self.columns)
        label_map = read_map(Path(self.label_map[0])) if self.label_map else None
        return ReadOptions(self.table or "", columns, plan, label_map)

    def arguments(self) -> list[str]:
        """Return the options as arguments of a command line."""
        pairs = (
            ("--table", self.table),
            ("--columns", self.columns),
            *(("--map", text) for text in self.label_map or ()),
        )
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
        """Return the choices for one folder. Raises: as `reading`."""
        return self.reading(self.plan)

    def by_source(self) -> dict[str, ReadOptions]:
        """Return name of a folder -> how to read it, by the maps of several folders. Raises: ConfigError."""
        from skinedge.data.read_options import ReadOptions
        from skinedge.data.sources.label_map import read_map

        given = {"--table": self.table, "--columns": self.columns, "--plan": self.plan}
        if alone := [name for name, value in given.items() if value is not None]:
            todo = "Name the columns in the folder's map: --map NAME=FILE.toml, with [columns]."
            raise ConfigError(f"{alone[0]} is for a single folder, and --data names several", todo=todo)
        readings: dict[str, ReadOptions] = {}
        for text in self.label_map or []:
            name, equals, file = text.partition("=")
            if not equals or name in readings:
                what = f"--map {text} does not name its folder" if not equals else f"two --map for '{name}'"
                raise ConfigError(what, todo="For example: --map isic2017=isic2017.toml")
            readings[name] = ReadOptions(label_map=read_map(Path(file)))
        return readings
