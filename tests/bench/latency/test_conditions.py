"""Conditions and properties of machines: from folders laid out like Linux, and from this machine."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from skinedge_bench import device
from skinedge_bench.latency import conditions
from skinedge_bench.latency.conditions import Conditions, machine_reasons

HERE = replace(device.describe_device({}), cores=4, max_frequency_mhz=2400.0)
CALM = Conditions(0.5, 2400.0, 40.0, "mains", 2, 0)


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def test_signs_of_a_busy_or_limited_machine() -> None:
    def reasons(foreign: float | None = None, **after: object) -> tuple[str, ...]:
        return machine_reasons(HERE, CALM, replace(CALM, **after), foreign)  # type: ignore[arg-type]

    assert reasons(0.05) == reasons() == ()
    assert reasons(0.0, load_average=4.0) == ()  # may be our own training
    assert "other processes used 30% of the 4 cores" in reasons(0.3)[0]
    assert reasons(power="battery") == ("on battery",)
    assert "throttled" in reasons(throttle_events=3)[0]
    assert "1500 of 2400 MHz" in reasons(frequency_mhz=1500.0)[0]
    nothing = Conditions()
    assert machine_reasons(HERE, nothing, nothing, None) == ()
    assert (
        "another benchmark ran at the same time: process 7" in machine_reasons(HERE, CALM, CALM, 0.0, ["process 7"])[0]
    )


@pytest.mark.parametrize(
    ("before", "after", "problems"),
    [
        (0x0, 0x50005, ["under-voltage", "throttled"]),  # now
        (0x0, 0x50000, ["under-voltage", "throttled"]),  # and over again
        (0x50000, 0x50000, []),  # before the benchmark
        (0x50000, 0x80008, ["soft temperature limit"]),
        (None, 0x5, []),
        (0, 0, []),
    ],
)
def test_a_raspberry_pis_firmware(before: int | None, after: int, problems: list[str]) -> None:
    reasons = machine_reasons(HERE, replace(CALM, pi_throttled=before), replace(CALM, pi_throttled=after), None)
    assert reasons == ((f"the Raspberry Pi's firmware reports: {', '.join(problems)}",) if problems else ())


def test_the_firmware_is_read_with_vcgencmd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert conditions.pi_throttled() is None
    command = tmp_path / "vcgencmd"
    command.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    command.chmod(0o755)
    assert conditions.pi_throttled() == 0x50005
    command.write_text("#!/bin/sh\necho VCHI initialization failed\nexit 255\n")
    assert conditions.pi_throttled() is None
    assert conditions.throttled_bits("throttled=0xnone") is None


def test_clock_temperature_and_throttling_from_sysfs(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path,
        {
            "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000",
            "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "600000",
            "class/thermal/thermal_zone0/type": "acpitz",
            "class/thermal/thermal_zone0/temp": "90000",
            "class/thermal/thermal_zone1/type": "x86_pkg_temp",
            "class/thermal/thermal_zone1/temp": "61000",
            "class/hwmon/hwmon0/name": "nvme",
            "class/hwmon/hwmon0/temp1_input": "80000",
            "class/hwmon/hwmon1/name": "coretemp",
            "class/hwmon/hwmon1/temp2_input": "63500",
        },
    )
    assert conditions.frequency_mhz(root, {0, 1}) == 1800 and conditions.frequency_mhz(root, {1}) == 600
    assert conditions.frequency_mhz(root, {7}) is None
    assert conditions.temperature_c(root) == 63.5
    for zone in ("class/thermal/thermal_zone1/type", "class/hwmon/hwmon1/name"):
        (root / zone).write_text("unknown\n")
    assert conditions.temperature_c(root) == 90  # no CPU sensor: the hottest zone
    assert conditions.temperature_c(tmp_path / "none") is None
    cpus = root / "devices/system/cpu"
    assert conditions.throttle_events(cpus) is None
    lay_out(cpus, {f"cpu{i}/thermal_throttle/core_throttle_count": str(count) for i, count in enumerate((3, 4))})
    assert conditions.throttle_events(cpus) == 7


def test_power_comes_from_the_mains_or_a_battery(tmp_path: Path) -> None:
    lay_out(tmp_path, {"AC/online": "0", "BAT0/status": "Discharging"})
    assert conditions.power_source(tmp_path) == "battery"
    lay_out(tmp_path, {"AC/online": "1", "BAT0/status": "Charging"})
    assert conditions.power_source(tmp_path) == "mains"
    assert conditions.power_source(tmp_path / "none") is None


def test_foreign_cpu_time_is_busy_time_minus_ours(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 1 1 1 1\ncpu0 100 20 30 800 50 5 5 40 7 0\ncpu1 0 0 0 9 0 0 0 0 0 0\nintr 5\n")
    now, ticks = conditions.cpu_clock(stat, {0}), os.sysconf("SC_CLK_TCK")
    assert now is not None and (now.total * ticks, now.busy * ticks) == pytest.approx((1050, 200))
    both = conditions.cpu_clock(stat, {0, 1})
    assert both is not None and both.total * ticks == pytest.approx(1059)
    assert conditions.cpu_clock(stat, {7}) is None and conditions.cpu_clock(tmp_path / "none") is None
    start = conditions.CpuClock(100, 10, 5)
    assert start.foreign_share(conditions.CpuClock(120, 22, 15)) == pytest.approx(0.1)  # 12 busy, 10 of them ours
    assert start.foreign_share(conditions.CpuClock(120, 18, 15)) == 0  # clocks of different resolution
    assert start.foreign_share(start) is None


def test_our_own_work_is_not_foreign() -> None:
    before = conditions.cpu_clock()
    if before is None:
        pytest.skip("no /proc/stat here")
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = conditions.cpu_clock()
    assert after is not None and after.own - before.own >= 0.25
    busy, total = after.busy - before.busy, after.total - before.total
    assert (before.foreign_share(after) or 0) <= busy / total - 0.2 / total


def test_the_device_is_this_one() -> None:
    here = device.describe_device({"litert": "1"})
    assert here.cores >= 1 and here.cpu and here.versions == {"litert": "1"}
    flags = subprocess.run(["cat", "/proc/cpuinfo"], capture_output=True, text=True, check=False).stdout.split()
    if flags:
        assert here.int8_dot_product == any(name in flags for name in device.INT8_DOT)
    if Path("/proc/sys/kernel/arch").is_file():
        kernel = Path("/proc/sys/kernel/arch").read_text().strip()
        assert (here.emulated is None) == (kernel == os.uname().machine)


X86_ALIAS = "cpu:type:x86,ven0002fam0019mod0011:feature:,0000,0001"
ARM_ALIAS = "cpu:type:aarch64:feature:,0000,0001"


@pytest.mark.parametrize(
    ("machine", "arch", "alias", "expected"),
    [
        ("aarch64", "x86_64", None, "aarch64 on x86_64"),  # qemu-aarch64 on a PC
        ("x86_64", "aarch64", X86_ALIAS, "x86_64 on aarch64"),  # an amd64 container on an Arm machine
        ("aarch64", None, X86_ALIAS, "aarch64 on x86"),  # before Linux 6.1
        ("aarch64", None, ARM_ALIAS, None),
        ("armv7l", "aarch64", None, None),  # 32-bit programs run natively on a 64-bit kernel
        ("i686", "x86_64", None, None),
        ("x86_64", "x86_64", X86_ALIAS, None),
        ("aarch64", None, None, None),  # nothing to detect it by
        ("riscv64", "x86_64", None, None),
    ],
)
def test_an_emulator_is_detected(
    tmp_path: Path, machine: str, arch: str | None, alias: str | None, expected: str | None
) -> None:
    if arch:
        lay_out(tmp_path, {"proc/sys/kernel/arch": arch})
    if alias:
        lay_out(tmp_path, {"sys/devices/system/cpu/modalias": alias})
    assert device.emulation(machine, tmp_path) == expected


def test_virtualization(tmp_path: Path) -> None:
    assert device.virtualization(tmp_path) == ()
    lay_out(tmp_path, {"proc/1/cgroup": "0::/docker/4f"})
    assert device.virtualization(tmp_path) == ("container",)
    lay_out(tmp_path, {"proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm"})
    assert device.virtualization(tmp_path) == ("virtual machine", "container")
    other = lay_out(tmp_path / "arm", {"sys/class/dmi/id/sys_vendor": "QEMU", "run/.containerenv": ""})
    assert device.virtualization(other) == ("virtual machine", "container")
