"""`skinedge bench --host` and `--adb`: the same benchmark on another device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.common import pick_run
from skinedge.core.errors import ConfigError

if TYPE_CHECKING:
    from skinedge_bench.latency.report import LatencyReport

HostOption = Annotated[
    str | None, typer.Option("--host", metavar="USER@HOST", help="Measure there, over SSH; the report comes back.")
]
PortOption = Annotated[int | None, typer.Option("--port", help="With --host: SSH's port.")]
PythonOption = Annotated[
    str | None, typer.Option("--python", help="With --host: a Python there that has the base install's packages.")
]
WithDataOption = Annotated[
    bool, typer.Option("--with-data", help="With --host: copy the test images too, and judge accuracy there.")
]
AdbOption = Annotated[bool, typer.Option("--adb", help="Measure the .tflite files on an Android phone.")]
SerialOption = Annotated[str | None, typer.Option("--serial", help="With --adb: which phone.")]
ToolOption = Annotated[
    Path | None, typer.Option("--tool", help="With --adb: TFLite's benchmark_model for Android; default: our app.")
]


@dataclass(frozen=True)
class Place:
    """The device that the options name."""

    host: str | None = None
    port: int | None = None
    python: str | None = None
    with_data: bool = False
    adb: bool = False
    serial: str | None = None
    tool: Path | None = None

    def is_here(self) -> bool:
        """Whether no other device is named. Raises: ConfigError for options that do not go together."""
        if self.host is not None and self.adb:
            raise ConfigError("--host and --adb name two devices", todo="Measure on one after the other.")
        for device, named, own in (
            ("--host", self.host is not None, ("port", "python", "with_data")),
            ("--adb", self.adb, ("serial", "tool")),
        ):
            given = [field.name for field in fields(self) if field.name in own and getattr(self, field.name)]
            if given and not named:
                raise ConfigError(f"--{given[0].replace('_', '-')} makes sense with {device} only")
        return self.host is None and not self.adb


def bench_there(
    place: Place, run: Path | None, data: Path | None, *, protocol: str, threads: str, runtimes: Sequence[str]
) -> LatencyReport:
    """The report of the device, which the run keeps too. Raises: SkinedgeError, see `remote` and `phone`."""
    if run is not None and run.is_file():
        raise ConfigError("another device measures a run, not a file alone", where=str(run), todo="Name its run.")
    bundle = pick_run(run, writes=True)
    if place.host is None:
        from skinedge_bench.devices.adb import Phone
        from skinedge_bench.devices.phone import bench_phone
        from skinedge_bench.devices.phone_app import App
        from skinedge_bench.devices.phone_tool import BenchmarkTool

        if data is not None or runtimes:
            raise ConfigError("--adb takes neither --data nor --runtime: a phone times, in LiteRT")
        way = App() if place.tool is None else BenchmarkTool(place.tool)
        return bench_phone(bundle, Phone(place.serial), way, protocol, threads)
    from skinedge_bench.devices.payload import split_images
    from skinedge_bench.devices.remote import bench_on
    from skinedge_bench.devices.ssh import Host

    if data is not None and not place.with_data:
        raise ConfigError("--data stays here unless --with-data is given too")
    images = split_images(bundle, data) if place.with_data else {}
    options = ["--protocol", protocol, "--threads", threads, *(w for name in runtimes for w in ("--runtime", name))]
    return bench_on(bundle, Host(place.host, place.port), options, images, place.python)
