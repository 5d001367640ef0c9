"""The CPU quota of this process's control groups, with which containers and batch systems share a machine (Linux)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")


def cpu_quota(process: Path = PROCESS) -> float | None:
    """Return the CPU time per second that this process may use, in CPUs, e.g. 1.5; None without a quota.

    It is the smallest quota of the process's groups and all groups above them, in cgroup v2 (`cpu.max`) and v1
    (`cpu.cfs_quota_us`; the kernel's cgroup-v2.rst and sched-bwc.rst), as far as they are mounted here.
    process: folder with the files `cgroup` and `mountinfo` of proc(5).
    """
    quotas = [quota for folder in _groups(process) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _groups(process: Path) -> Iterator[Path]:
    """Yield the folders of the process's groups, and of the groups above them, up to where they are mounted."""
    lines = [line.split(":", 2) for line in _lines(process / "cgroup")]  # number, v1 controllers or '' for v2, group
    groups = {controller: group for _, controllers, group in lines for controller in controllers.split(",")}
    for controller, root, mount_point in _mounts(process):
        if controller in groups:
            folder = mount_point / _below(groups[controller], root)
            yield folder
            yield from (parent for parent in folder.parents if parent.is_relative_to(mount_point))


def _mounts(process: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the mounts that can hold quotas: '' for v2 or 'cpu' for v1, the group that is mounted, and where."""
    for line in _lines(process / "mountinfo"):
        fields, _, filesystem = line.partition(" - ")
        kind, *_, options = filesystem.split(" ")
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            root, mount_point = (re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), f) for f in fields.split(" ")[3:5])
            yield "" if kind == "cgroup2" else "cpu", root, Path(mount_point)


def _below(group: str, root: str) -> PurePosixPath:
    """Return a group's path below the root of a mount; '.' if it is outside it, in another namespace."""
    path = PurePosixPath(group)
    return path.relative_to(root) if path.is_relative_to(root) and ".." not in path.parts else PurePosixPath()


def _quota_of(folder: Path) -> float | None:
    """Return the quota of one group in CPUs; None without one ('max' in v2, -1 in v1)."""
    v1 = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
    numbers = " ".join(_lines(folder / "cpu.max") or v1).split()
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) for number in numbers):
        return None
    return int(numbers[0]) / int(numbers[1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
