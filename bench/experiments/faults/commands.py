"""The commands that write files, in small form: the starting state, how to repeat them, and their expected files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
backbone = "test_efficientnet"
weights = "random"
image_size = 64
epochs = 2
patience = 8
batch_size = 16
precision = "fp32"
checkpoint_minutes = 0.0
"""
Arguments = tuple[str, ...]
DATA = "@data"  # placeholder of the folder of images
FOLDER = "@folder"  # placeholder of a folder with a few of them
IMAGE = "@image"  # placeholder of one of them


@dataclass(frozen=True)
class Command:
    """One command line.

    stage: name of the sandbox that it starts from; again: the arguments that repeat it after an interruption, as a
    function of its working folder (None: the same arguments); made: patterns of the files with the same bytes in every
    run; timed: files of measurements, whose presence alone is compared; children: it starts processes that can be
    killed; once: it refuses to replace its own output.
    """

    name: str
    stage: str
    arguments: Arguments
    again: Callable[[Path], Arguments] | None = None
    made: tuple[str, ...] = ()
    timed: tuple[str, ...] = ()
    children: bool = False
    once: bool = False

    def repeated(self, work: Path) -> Arguments:
        return self.arguments if self.again is None else self.again(work)


def _resumed(arguments: Arguments) -> Callable[[Path], Arguments]:
    return lambda _: (*arguments, "--resume")


def _forced_or_resumed(work: Path) -> Arguments:
    """A training that replaces a run is resumed if it has begun, else repeated."""
    return (*TRAIN_OVER, "--resume" if (work / "runs/a.training/job.json").is_file() else "--force")


TRAIN = ("train", "--data", DATA, "--out", "runs/new", "--config", "tiny.toml", "--device", "cpu")
TRAIN_OVER = ("train", "--data", DATA, "--out", "runs/a", "--config", "other.toml", "--device", "cpu")
EVALUATE = ("evaluate", "runs/a", "--data", DATA, "--split", "test", "--file", "model.int8.onnx", "--out", "evaluated")
PREDICT = ("predict", FOLDER, "--run", "runs/a", "--file", "model.int8.onnx", "--out", "predicted.jsonl")
SHIP = ("ship", "runs/a", "--to", "packed", "--evaluation", "evaluation")
ADAPTER = "adapter/adapter_model.safetensors"
COMMANDS = (
    Command("train", "empty", TRAIN, _resumed(TRAIN), (f"runs/new/{ADAPTER}", "runs/new/split.csv")),
    Command("train --resume", "interrupted", (*TRAIN, "--resume"), None, (f"runs/new/{ADAPTER}", "runs/new/split.csv")),
    Command("train --force", "trained", (*TRAIN_OVER, "--force"), _forced_or_resumed, (f"runs/a/{ADAPTER}",)),
    Command("merge", "trained", ("merge", "runs/a", "--data", DATA), None, ("runs/a/model.safetensors",)),
    Command(
        "export onnx", "merged", ("export", "runs/a", "--data", DATA, "--format", "onnx"), None, ("runs/a/*.onnx",)
    ),
    Command(
        "export tflite",
        "merged",
        ("export", "runs/a", "--data", DATA, "--format", "tflite"),
        None,
        ("runs/a/*.tflite",),
    ),
    Command(
        "export int8",
        "merged",
        ("export", "runs/a", "--data", DATA, "--format", "onnx", "--precision", "int8"),
        None,
        ("runs/a/*.onnx",),
    ),
    Command(
        "export --force",
        "exported",
        ("export", "runs/a", "--data", DATA, "--format", "onnx", "--force"),
        None,
        ("runs/a/*.onnx",),
    ),
    Command(
        "export all",
        "merged",
        ("export", "runs/a", "--data", DATA, "--format", "all"),
        None,
        ("runs/a/*.onnx", "runs/a/*.tflite"),
        children=True,
    ),
    Command("verify", "exported", ("verify", "runs/a", "--data", DATA)),
    Command("verify --layers", "exported", ("verify", "runs/a", "--layers", "--data", DATA, "--images", "8")),
    Command(
        "bench",
        "exported",
        ("bench", "runs/a", "--data", DATA, "--protocol", "quick", "--runtime", "litert", "--out", "latency.json"),
        None,
        timed=("runs/a/reports/latency.json", "latency.json"),
        children=True,
    ),
    Command("evaluate", "finished", EVALUATE, _resumed(EVALUATE)),
    Command("evaluate --resume", "evaluating", (*EVALUATE, "--resume")),
    Command("predict", "finished", PREDICT, _resumed(PREDICT), ("predicted.jsonl",)),
    Command("predict --resume", "predicting", (*PREDICT, "--resume"), None, ("predicted.jsonl",)),
    Command(
        "predict --jobs 2",
        "finished",
        (*PREDICT, "--jobs", "2"),
        _resumed((*PREDICT, "--jobs", "2")),
        ("predicted.jsonl",),
        children=True,
    ),
    Command("explain", "finished", ("explain", IMAGE, "--run", "runs/a", "--out", "explained"), None, ("explained/*",)),
    Command("report", "finished", ("report", "runs/a", "--evaluation", "evaluation")),
    Command("ship", "finished", SHIP, once=True),
    Command("ship --force", "shipped", (*SHIP, "--force")),
    Command("android", "finished", ("android", "--model", "runs/a", "--to", "assets"), None, ("assets/*",)),
    Command("android over", "placed", ("android", "--model", "runs/a", "--to", "assets"), None, ("assets/*",)),
    Command("web", "finished", ("web", "--run", "runs/a", "--out", "site"), None, ("site/**",), once=True),
    Command(
        "data synth",
        "empty",
        ("data", "synth", "drawn", "--count", "70", "--size", "32"),
        None,
        ("drawn/**",),
        once=True,
    ),
    Command("data check", "empty", ("data", "check", DATA)),
    Command("data clean", "empty", ("data", "clean", DATA, "--plan", "plan.csv"), None, ("plan.csv",), once=True),
    Command("data info", "empty", ("data", "info", DATA)),
)
