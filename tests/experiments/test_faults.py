"""Kills and injected errors at the filesystem calls of some commands; `make faults` tests all, with more of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COMMANDS = ("data synth", "train", "train --force", "merge")
COUNT = 32  # experiments


def test_nothing_is_lost_and_nothing_is_left_by_a_kill_or_an_error(tmp_path: Path) -> None:
    """Fixed seed; each command is repeated after each fault and must then leave the files of a run without a fault."""
    out = tmp_path / "faults.json"
    command = [sys.executable, "-m", "experiments.faults", "--commands", *COMMANDS, "--count", "1"]
    done = subprocess.run(
        [*command, "--seed", "14", "--most", str(COUNT), "--out", str(out)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    experiments = json.loads(out.read_text())["experiments"]
    struck = [experiment for experiment in experiments if experiment["struck"]]
    assert len(experiments) == COUNT and len(struck) > 0.8 * COUNT
    commands = {experiment["command"] for experiment in struck}  # the sample depends on what each costs here
    assert commands <= set(COMMANDS) and len(commands) > 2
    assert {experiment["kind"] for experiment in struck} == {"kill", "error"}
