"""`kill -9` at any moment, then the same command with --resume: the same bits as without a kill."""

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

# Small and on one thread: twenty processes follow one another. A checkpoint after every step.
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
KEPT = ("adapter/adapter_model.safetensors", "split.csv")
DURING = 10  # kills between the first and the last step


@dataclass(frozen=True)
class Moment:
    """Right before the `occurrence`-th `event` on a file named `name` in a process, and `delay` seconds after that."""

    event: str
    name: str
    occurrence: int = 1
    delay: float = 0.0


PREPARING = (
    Moment("os.mkdir", "run.training"),  # nothing is decided yet
    Moment("os.rename", "job.json"),  # split.csv is there, job.json is not
    Moment("os.rename", "train.32.u8"),  # decoded, and not yet in its place
    Moment("open", "val.32.part", delay=0.002),  # decoding
)
FINISHING = (
    Moment("open", "adapter_model.safetensors"),
    Moment("os.rename", "training.json"),
    Moment("os.rename", "run"),
)
TIDYING = (  # the run is in its place
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
    """Runs one training's command again and again in processes of their own; see killable.py."""

    server: subprocess.Popen[str]
    data: Path
    config: Path
    out: Path
    messages: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.out.with_name(f"{self.out.name}.training")

    def train(self, moment: Moment | None, *more: str) -> int:
        """The exit status; -9 when it was killed."""
        log = self.out.with_name("log.txt")
        arguments = ["train", "--data", str(self.data), "--out", str(self.out), "--config", str(self.config)]
        order = {"arguments": [*arguments, "--device", "cpu", *more], "log": str(log)}
        assert self.server.stdin and self.server.stdout
        print(json.dumps({**order, "kill": moment and asdict(moment)}), file=self.server.stdin, flush=True)
        status = int(json.loads(self.server.stdout.readline())["status"])
        self.messages.append(log.read_text())
        return status

    def kill(self, moment: Moment, *more: str) -> None:
        status = self.train(moment, *more)
        assert status == -SIGKILL, f"{moment} did not come: status {status}\n{self.messages[-1]}"

    def steps_done(self) -> int:
        """As the newest checkpoint tells; 0 without one."""
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
    """Around a checkpoint: at one of its file operations, or some milliseconds later (in the step after it).

    room: steps that may pass, `kills` kills to come not counted.
    """
    event, name = rng.choice(CHECKPOINT)
    if room <= 0:
        return Moment(event, name)
    most = min(room, max(1, 2 * room // kills))
    return Moment(event, name, rng.randint(1, most), rng.choice((0.0, rng.uniform(0.002, 0.02))))


def test_kills_from_the_first_to_the_last_file_operation_change_no_bit(killer: Killer) -> None:
    """Killed while preparing, at seeded random steps (in a step, or in writing its checkpoint), and while finishing."""
    killer.out.parent.mkdir()
    assert killer.train(None) == 0, killer.messages
    reference = killer.out.replace(killer.out.parent.with_name("reference"))
    rng = random.Random(4)
    killer.kill(PREPARING[0])
    for moment in PREPARING[1:]:
        killer.kill(moment, "--resume")
    steps, reached = total_steps(reference, killer.config), []
    for left in range(DURING, 0, -1):
        killer.kill(random_moment(rng, steps - killer.steps_done() - 2 * left, left), "--resume")
        reached.append(killer.steps_done())
    for moment in FINISHING + TIDYING:
        killer.kill(moment, "--resume")
        assert killer.out.exists() == (moment in TIDYING)
    assert killer.train(None, "--resume") == 0
    assert [sha256(killer.out / name) for name in KEPT] == [sha256(reference / name) for name in KEPT]
    assert [path.name for path in killer.out.parent.iterdir() if path.name != "log.txt"] == ["run"]
    assert reached == sorted(reached) and len(set(reached)) >= DURING // 2, reached
