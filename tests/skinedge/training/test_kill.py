"""A training killed (SIGKILL) at any moment and resumed is bit-identical to one that was not killed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import SIGKILL

import pytest
import torch

from skinedge.core.files import sha256
from skinedge.run.config import load_config

# Small and on one thread, for twenty processes in sequence. A checkpoint after every step.
CONFIG = """
backbone = "test_efficientnet"
weights = "random"
image_size = 32
epochs = 8
patience = 8
batch_size = 16
precision = "fp32"
checkpoint_minutes = 0.0
"""
COMPARED = ("adapter/adapter_model.safetensors", "split.csv")
DURING = 10  # kills between the first and the last step


@dataclass(frozen=True)
class Moment:
    """`delay` seconds after the moment before the `occurrence`-th `event` on a file named `name` in a process."""

    event: str
    name: str
    occurrence: int = 1
    delay: float = 0.0


PREPARING = (
    Moment("os.mkdir", "run.training"),  # before any decision
    Moment("os.rename", "job.json"),  # after split.csv, before job.json
    Moment("os.rename", "train.32.u8"),  # decoded, not yet renamed
    Moment("open", "val.32.part", delay=0.002),  # decoding
)
FINISHING = (
    Moment("open", "adapter_model.safetensors"),
    Moment("os.rename", "training.json"),
    Moment("os.rename", "run"),
)
CLEANING = (  # the run is complete
    Moment("os.remove", "checkpoint.pt"),
    Moment("os.remove", "job.json"),
    Moment("os.rmdir", "run.training"),
)
CHECKPOINT = (
    ("open", "checkpoint.next.pt.*.part"),
    ("os.rename", "checkpoint.next.pt"),
    ("os.rename", "checkpoint.previous.pt"),
    ("os.rename", "checkpoint.pt"),
)


@dataclass
class Killer:
    """Runs the command of one training repeatedly, each time in a new process (killable.py)."""

    server: subprocess.Popen[str]
    data: Path
    config: Path
    out: Path
    messages: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.out.with_name(f"{self.out.name}.training")

    def train(self, moment: Moment | None, *options: str) -> int:
        """Train, killed at `moment`; return the exit status, -9 for a killed process."""
        log = self.out.with_name("log.txt")
        arguments = ["train", "--data", str(self.data), "--out", str(self.out), "--config", str(self.config)]
        order = {"arguments": [*arguments, "--device", "cpu", *options], "log": str(log)}
        assert self.server.stdin and self.server.stdout
        print(json.dumps({**order, "kill": moment and asdict(moment)}), file=self.server.stdin, flush=True)
        status = int(json.loads(self.server.stdout.readline())["status"])
        self.messages.append(log.read_text())
        return status

    def kill(self, moment: Moment, *options: str) -> None:
        status = self.train(moment, *options)
        assert status == -SIGKILL, f"{moment} did not come: status {status}\n{self.messages[-1]}"

    def steps_done(self) -> int:
        """Return the step of the newest checkpoint; 0 without one."""
        for name in ("checkpoint.pt", "checkpoint.previous.pt"):
            if (self.work / name).exists():
                return int(torch.load(self.work / name, weights_only=True)["progress"]["step"])
        return 0


@pytest.fixture
def killer(synthetic_images: Path, tmp_path: Path) -> Iterator[Killer]:
    config = tmp_path / "often.toml"
    config.write_text(CONFIG)
    command = [sys.executable, str(Path(__file__).with_name("killable.py"))]
    pipe, environment = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as server:
        yield Killer(server, synthetic_images, config, tmp_path / "runs" / "run")
        assert server.stdin
        server.stdin.close()


def total_steps(run: Path, config: Path) -> int:
    settings = load_config(config)
    rows = [line.split(",")[3] for line in (run / "split.csv").read_text().splitlines()]
    return settings.epochs * -(-rows.count("train") // settings.batch_size)


def random_moment(rng: random.Random, room: int, kills: int) -> Moment:
    """Choose a moment at a file operation of a checkpoint, or some milliseconds later (in the next step).

    room: steps that may pass before the `kills` remaining kills.
    """
    event, name = rng.choice(CHECKPOINT)
    if room <= 0:
        return Moment(event, name)
    largest = min(room, max(1, 2 * room // kills))
    return Moment(event, name, rng.randint(1, largest), rng.choice((0.0, rng.uniform(0.002, 0.02))))


def test_kills_between_the_first_and_the_last_file_operation_change_no_bit(killer: Killer) -> None:
    """Kills in preparation, at seeded random steps (during a step or its checkpoint), and at the end."""
    killer.out.parent.mkdir()
    assert killer.train(None) == 0, killer.messages
    reference = killer.out.replace(killer.out.parent.with_name("reference"))
    rng = random.Random(4)
    killer.kill(PREPARING[0])
    for moment in PREPARING[1:]:
        killer.kill(moment, "--resume")
    steps, reached = total_steps(reference, killer.config), []
    for remaining in range(DURING, 0, -1):
        killer.kill(random_moment(rng, steps - killer.steps_done() - 2 * remaining, remaining), "--resume")
        reached.append(killer.steps_done())
    for moment in FINISHING + CLEANING:
        killer.kill(moment, "--resume")
        assert killer.out.exists() == (moment in CLEANING)
    assert killer.train(None, "--resume") == 0
    assert [sha256(killer.out / name) for name in COMPARED] == [sha256(reference / name) for name in COMPARED]
    assert [path.name for path in killer.out.parent.iterdir() if path.name != "log.txt"] == ["run"]
    assert reached == sorted(reached) and len(set(reached)) >= DURING // 2, reached
