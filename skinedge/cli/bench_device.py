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
    from skinedge.run.run_directory import Bundle
    from skinedge_bench.latency.report import LatencyReport

SSH, PHONE = "Another device, over SSH", "An Android phone"
HOST_ONLY, ADB_ONLY = ("port", "python", "with_data"), ("serial", "tool")


@dataclass(frozen=True)
class OtherDevice:
    """The options that name another device to measure on."""

    host: Annotated[
        str | None,
        typer.Option(metavar="USER@HOST", help="Benchmark on this host and copy the report back.", rich_help_panel=SSH),
    ] = None
    port: Annotated[
        int | None, typer.Option(metavar="N", help="SSH port. [default: ssh's own]", rich_help_panel=SSH)
    ] = None
    python: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Use this Python of the host, with the base installation's packages. "
            "[default: an environment set up there]",
            rich_help_panel=SSH,
        ),
    ] = None
    with_data: Annotated[
        bool,
        typer.Option("--with-data", help="Copy the test images too, and measure accuracy there.", rich_help_panel=SSH),
    ] = False
    adb: Annotated[
        bool, typer.Option("--adb", help="Benchmark the .tflite files on a phone, over adb.", rich_help_panel=PHONE)
    ] = False
    serial: Annotated[
        str | None, typer.Option(help="Serial number, if several phones are connected.", rich_help_panel=PHONE)
    ] = None
    tool: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Time with TFLite's benchmark_model for Android. [default: the demo app]",
            rich_help_panel=PHONE,
        ),
    ] = None

    def named(self) -> bool:
        """Return whether the options name another device. Raises: ConfigError for options that exclude each other."""
        if self.host is not None and self.adb:
            raise ConfigError("--host and --adb name two devices", todo="Benchmark one after the other.")
        for device, present, own in (("--host", self.host is not None, HOST_ONLY), ("--adb", self.adb, ADB_ONLY)):
            given = [field.name for field in fields(self) if field.name in own and getattr(self, field.name)]
            if given and not present:
                raise ConfigError(f"--{given[0].replace('_', '-')} requires {device}")
        return self.host is not None or self.adb


def bench_on_device(
    device: OtherDevice, run: Path | None, data: Path | None, *, protocol: str, threads: str, runtimes: Sequence[str]
) -> LatencyReport:
    """Benchmark a run on the device; return the report, which the run keeps too. Raises: SkinedgeError."""
    if run is not None and run.is_file():
        raise ConfigError("another device measures a run, not a single file", where=str(run), todo="Name its run.")
    bundle = pick_run(run, writes=True)
    if device.host is None:
        if data is not None or runtimes:
            raise ConfigError("--adb takes neither --data nor --runtime: a phone measures latency only, in LiteRT")
        return _bench_on_phone(device, bundle, protocol, threads)
    from skinedge_bench.devices.payload import split_images
    from skinedge_bench.devices.remote import bench_on
    from skinedge_bench.devices.ssh import Host

    if data is not None and not device.with_data:
        raise ConfigError("--data requires --with-data beside --host")
    images = split_images(bundle, data) if device.with_data else {}
    options = ["--protocol", protocol, "--threads", threads]
    for name in runtimes:
        options += ["--runtime", name]
    return bench_on(bundle, Host(device.host, device.port), options, images, device.python)


def _bench_on_phone(device: OtherDevice, bundle: Bundle, protocol: str, threads: str) -> LatencyReport:
    from skinedge_bench.devices.adb import Phone
    from skinedge_bench.devices.phone import bench_phone
    from skinedge_bench.devices.phone_app import App
    from skinedge_bench.devices.phone_tool import BenchmarkTool

    timer = App() if device.tool is None else BenchmarkTool(device.tool)
    return bench_phone(bundle, Phone(device.serial), timer, protocol, threads)
