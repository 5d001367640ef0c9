"""Usable cores: affinity, PYTHON_CPU_COUNT, and CPU quotas in trees like the kernel's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skinedge.core.errors import ConfigError
from skinedge.publish import doctor
from skinedge.system import cpu
from skinedge.system.cpu_quota import cpu_quota

V2, V1 = "cgroup2", "cgroup"


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 8 cores, no quota and no limit."""
    monkeypatch.setattr(cpu, "usable", lambda: frozenset(range(8)))
    monkeypatch.setattr(cpu, "cpu_quota", lambda: None)
    monkeypatch.delenv(cpu.LIMIT, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def process(
    tmp_path: Path, group: str, quotas: dict[str, str], *, kind: str = V2, root: str = "/", mount: str = "mnt"
) -> Path:
    """Write a process's `cgroup` and `mountinfo`, and the groups' files below the mount point; return its folder.

    group: of the process; root: group at the mount point; quotas: folder below the mount point -> 'quota period'.
    """
    point, folder = tmp_path / mount, tmp_path / "proc"
    for name, text in quotas.items():
        (point / name).mkdir(parents=True, exist_ok=True)
        if kind == V2:
            (point / name / "cpu.max").write_text(f"{text}\n")
        else:
            for file, number in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), text.split(), strict=True):
                (point / name / file).write_text(f"{number}\n")
    folder.mkdir(exist_ok=True)
    own = f"0::{group}\n" if kind == V2 else f"4:memory:/other\n3:cpu,cpuacct:{group}\n0::/\n"
    escaped = str(point).replace(" ", "\\040")
    options = "rw,nsdelegate" if kind == V2 else "rw,cpu,cpuacct"
    (folder / "cgroup").write_text(own)
    (folder / "mountinfo").write_text(
        "22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw\n"
        f"30 23 0:26 {root} {escaped} ro,nosuid shared:9 - {kind} cgroup {options}\n"
    )
    return folder


@pytest.mark.parametrize("kind", [V2, V1])
@pytest.mark.parametrize(("quota", "cpus"), [(150000, 1.5), (50000, 0.5), (200000, 2.0)])
def test_the_quota_of_a_group_in_its_namespace(tmp_path: Path, kind: str, quota: int, cpus: float) -> None:
    """In a container with its own cgroup namespace, the group is the root of the mount."""
    assert cpu_quota(process(tmp_path, "/", {"": f"{quota} 100000"}, kind=kind)) == cpus


@pytest.mark.parametrize("kind", [V2, V1])
def test_the_smallest_quota_above_the_process_counts_and_no_other(tmp_path: Path, kind: str) -> None:
    quotas = {"": "800000 100000", "pods": "100000 50000", "pods/a": "300000 100000", "other": "100 100000"}
    assert cpu_quota(process(tmp_path, "/pods/a", quotas, kind=kind)) == 2.0
    assert cpu_quota(process(tmp_path, "/pods/a/not/shown", quotas, kind=kind)) == 2.0


@pytest.mark.parametrize("kind", [V2, V1])
def test_a_mount_that_shows_a_part_of_the_tree(tmp_path: Path, kind: str) -> None:
    """Without a namespace, Docker mounts the container's own group; the process's path is that of the host."""
    quotas = {"": "300000 100000", "inner": "100000 100000"}
    assert cpu_quota(process(tmp_path, "/docker/a1", quotas, kind=kind, root="/docker/a1")) == 3.0
    assert cpu_quota(process(tmp_path, "/docker/a1/inner", quotas, kind=kind, root="/docker/a1")) == 1.0
    assert cpu_quota(process(tmp_path, "/../b2", quotas, kind=kind, root="/")) == 3.0  # outside the namespace
    assert cpu_quota(process(tmp_path, "/b2", quotas, kind=kind, root="/docker/a1")) == 3.0


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    assert cpu_quota(process(tmp_path, "/", {"": "100000 100000"}, mount="my groups")) == 1.0


@pytest.mark.parametrize(
    ("kind", "text"), [(V2, "max 100000"), (V1, "-1 100000"), (V1, "0 100000"), (V2, "100000 0"), (V2, ""), (V2, "?")]
)
def test_no_quota(tmp_path: Path, kind: str, text: str) -> None:
    assert cpu_quota(process(tmp_path, "/", {"": text}, kind=kind)) is None


def test_v1_and_v2_together_and_neither(tmp_path: Path) -> None:
    """On hybrid systems v2 has no CPU controller; its folder has no cpu.max."""
    folder = process(tmp_path, "/batch", {"batch": "250000 100000"}, kind=V1)
    with (folder / "mountinfo").open("a") as stream:
        stream.write(f"41 31 0:38 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n")
    assert cpu_quota(folder) == 2.5
    assert cpu_quota(tmp_path / "no proc") is None


@pytest.mark.parametrize(("quota", "cores"), [(0.05, 1), (1.0, 1), (1.5, 2), (2.0, 2), (7.01, 8), (64.0, 8), (None, 8)])
def test_a_quota_counts_rounded_up_and_never_above_the_affinity(
    many_cores: None, monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(cpu, "cpu_quota", lambda: quota)
    assert cpu.usable_cores() == cores
    cpu.limit_threads()
    assert os.environ.get("OMP_NUM_THREADS") == (str(cores) if cores < 8 else None)


def test_the_users_number_of_threads_is_kept(many_cores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "cpu_quota", lambda: 2.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    cpu.limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize(("text", "cores"), [("3", 3), ("99", 8), ("default", 8), ("", 8)])
def test_python_cpu_count(many_cores: None, monkeypatch: pytest.MonkeyPatch, text: str, cores: int) -> None:
    monkeypatch.setenv(cpu.LIMIT, text)
    assert cpu.usable_cores() == cores


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_another_python_cpu_count_is_refused(many_cores: None, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(cpu.LIMIT, text)
    with pytest.raises(ConfigError, match=f"PYTHON_CPU_COUNT is '{text}'"):
        cpu.usable_cores()


def test_doctor_reports_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    for quota, shown in ((1.5, True), (None, False)):
        monkeypatch.setattr(doctor, "cpu_quota", lambda quota=quota: quota)
        assert doctor.system()[0].detail.endswith(", limited to 1.5 CPUs") == shown


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_the_affinity_of_taskset_counts() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code += "from skinedge.system.cpu import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_the_command_line_limits_threads_before_torch_reads_them(tmp_path: Path) -> None:
    """A real command, in a process whose quota is smaller than its affinity."""
    code = (
        "import os, sys\n"
        "from skinedge.system import cpu\n"
        "cpu.usable, cpu.cpu_quota = lambda: frozenset(range(8)), lambda: 2.5\n"
        "from skinedge.cli import main\n"
        "sys.argv = ['skinedge', '--version']\n"
        "try: main()\n"
        "except SystemExit: print(os.environ['OMP_NUM_THREADS'], 'torch' in sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines()[-1] == "3 False", done.stderr
