"""Conditions of a machine during a benchmark (load, clock, temperature, power), and reasons to distrust its timings.

Every figure is None if the OS does not report it (a virtual machine seldom does).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.system.child_process import run_program
from skinedge.system.cpu import usable
from skinedge.system.cpu_features import read_text
from skinedge_bench.device import Device

FOREIGN = 0.10  # largest share of the usable cores' time for other processes
SLOW_CLOCK = 0.7  # of the highest frequency: a busy core below it is limited
CPU_SENSORS = ("cpu", "core", "pkg", "package", "soc", "k10temp", "zenpower")
# Bits of a Raspberry Pi's `vcgencmd get_throttled` (its documentation); 16 bits higher: since the system's start.
PI_THROTTLED = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
ROOT = Path("/sys")


@dataclass(frozen=True)
class Conditions:
    """A machine at one moment.

    load_average: of the last minute, our own load included; frequency_mhz: of the fastest usable core;
    temperature_c: of the hottest CPU sensor; power: 'mains' or 'battery'; throttle_events: the kernel's count since the
    system's start; pi_throttled: the bits of a Raspberry Pi's firmware.
    """

    load_average: float | None = None
    frequency_mhz: float | None = None
    temperature_c: float | None = None
    power: str | None = None
    throttle_events: int | None = None
    pi_throttled: int | None = None


def conditions() -> Conditions:
    """Read this machine's conditions."""
    return Conditions(
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        frequency_mhz=frequency_mhz(),
        temperature_c=temperature_c(),
        power=power_source(),
        throttle_events=throttle_events(),
        pi_throttled=pi_throttled(),
    )


def machine_reasons(
    device: Device, before: Conditions, after: Conditions, foreign: float | None, others: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the reasons to distrust all timings of this machine.

    foreign: share of the cores' time that other processes used, None if unknown;
    others: descriptions of concurrent benchmarks.
    """
    reasons = [f"another benchmark ran at the same time: {other}" for other in others]
    if foreign is not None and foreign > FOREIGN:
        reasons.append(f"other processes used {foreign:.0%} of the {device.cores} cores during the benchmark")
    if "battery" in (before.power, after.power):
        reasons.append("on battery")
    if before.throttle_events is not None and (after.throttle_events or 0) > before.throttle_events:
        reasons.append("the CPU was throttled for heat")
    if problems := _pi_problems(before.pi_throttled, after.pi_throttled):
        reasons.append(f"the Raspberry Pi's firmware reports: {', '.join(problems)}")
    clock, highest = after.frequency_mhz, device.max_frequency_mhz
    if clock is not None and highest is not None and clock < SLOW_CLOCK * highest:
        reasons.append(f"the clock frequency was {clock:.0f} of {highest:.0f} MHz at the end")
    return tuple(reasons)


def _pi_problems(before: int | None, after: int | None) -> list[str]:
    """Return the problems present at the end, or that occurred since `before`."""
    if before is None or after is None:
        return []
    new = after & ~before
    return [text for bit, text in PI_THROTTLED.items() if after >> bit & 1 or new >> (bit + 16) & 1]


@dataclass(frozen=True)
class CpuClock:
    """CPU seconds of all usable cores together, since the system's start.

    total: elapsed; busy: used by any process (or, on a virtual machine, taken by the host);
    own: used by this process and its finished children.
    """

    total: float
    busy: float
    own: float

    def foreign_share(self, later: CpuClock) -> float | None:
        """Return the share of the cores' time that other processes used between two readings; None if none passed."""
        total = later.total - self.total
        if total <= 0:
            return None
        foreign = (later.busy - self.busy) - (later.own - self.own)
        return min(1.0, max(0.0, foreign / total))


def cpu_clock(stat: Path = Path("/proc/stat"), cores: Collection[int] | None = None) -> CpuClock | None:
    """Read the lines 'cpuN' of the cores (default: the usable ones); None if the OS has no such file.

    Fields of a line: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)), in clock ticks.
    """
    wanted = {f"cpu{core}" for core in (usable() if cores is None else cores)}
    rows = [line.split() for line in (read_text(stat) or "").splitlines()]
    ticks = [[int(count) for count in row[1:9]] for row in rows if row and row[0] in wanted]
    if not ticks:
        return None
    total, idle = sum(map(sum, ticks)), sum(sum(row[3:5]) for row in ticks)
    times, second = os.times(), os.sysconf("SC_CLK_TCK")
    own = times.user + times.system + times.children_user + times.children_system
    return CpuClock(total / second, (total - idle) / second, own)


def power_source(root: Path = Path("/sys/class/power_supply")) -> str | None:
    """Return 'battery' if one is discharging, 'mains' if a supply is online, else None."""
    status = [read_text(item / "status") for item in sorted(root.glob("*"))]
    online = [read_text(item / "online") for item in sorted(root.glob("*"))]
    if "Discharging" in status:
        return "battery"
    return "mains" if "1" in online else None


def throttle_events(root: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """Return the kernel's count of thermal throttling of all cores; None without one."""
    counts = [read_text(path) for path in sorted(root.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))]
    return sum(int(count) for count in counts if count) if counts else None


def pi_throttled() -> int | None:
    """Return the bits of a Raspberry Pi's firmware; None on any other machine."""
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    done = run_program([command, "get_throttled"])
    return throttled_bits(done.stdout)


def throttled_bits(output: str) -> int | None:
    """'throttled=0x50005' -> 0x50005; None for any other text."""
    name, _, value = output.strip().partition("=")
    try:
        return int(value, 16) if name == "throttled" else None
    except ValueError:
        return None


def frequency_mhz(root: Path = ROOT, cores: Collection[int] | None = None) -> float | None:
    """Return the clock frequency of the fastest core (default: of the usable ones), from the frequency driver."""
    wanted = usable() if cores is None else cores
    folders = [root / f"devices/system/cpu/cpu{core}/cpufreq" for core in wanted]
    frequencies_khz = [read_text(folder / "scaling_cur_freq") for folder in folders]
    return max((int(khz) / 1000 for khz in frequencies_khz if khz and khz.isdigit()), default=None)


def temperature_c(root: Path = ROOT) -> float | None:
    """Return the temperature of the hottest CPU sensor, else of the hottest thermal zone; None without any."""
    zones = [(read_text(zone / "type"), read_text(zone / "temp")) for zone in root.glob("class/thermal/thermal_zone*")]
    chips = [
        (read_text(sensor.parent / "name"), read_text(sensor)) for sensor in root.glob("class/hwmon/hwmon*/temp*_input")
    ]
    of_cpu = [text for name, text in zones + chips if any(word in (name or "").lower() for word in CPU_SENSORS)]
    values = [int(text) / 1000 for text in (of_cpu or [text for _, text in zones]) if text and text.isdigit()]
    return max(values, default=None)
