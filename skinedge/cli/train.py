"""skinedge train, merge, run."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import DataOption, JsonOption, RunArgument, emit_json, figure, note, pick_run, say, table
from skinedge.core.errors import ConfigError

if TYPE_CHECKING:
    from skinedge.run.run_directory import Bundle
    from skinedge.training.job import TrainRequest

OutOption = Annotated[Path | None, typer.Option("--out", help="Run directory to make; default: under runs/.")]
BackboneOption = Annotated[str | None, typer.Option(help="A timm model name. [default: tf_efficientnet_lite0]")]
SizeOption = Annotated[int | None, typer.Option("--image-size", help="Side of the input, pixels. [default: 224]")]
EpochsOption = Annotated[int | None, typer.Option(help="Passes over the training images. [default: 10]")]
LimitOption = Annotated[int | None, typer.Option(help="Use at most so many images, stratified by class.")]
TeacherOption = Annotated[Path | None, typer.Option(help="A merged run of the same classes that teaches this one.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the split, the order and the augmentation. [default: 0]")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file with any of the settings.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is at --out.")]


@dataclass(frozen=True)
class Settings:
    """The options of train and run that lie over the config file (None: not given)."""

    backbone: str | None
    image_size: int | None
    epochs: int | None
    limit: int | None
    seed: int | None
    teacher: str | None


@app.command()
def train(
    data: DataOption = None,
    out: OutOption = None,
    backbone: BackboneOption = None,
    image_size: SizeOption = None,
    epochs: EpochsOption = None,
    limit: LimitOption = None,
    seed: SeedOption = None,
    teacher: TeacherOption = None,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    resume: ResumeOption = False,
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Train LoRA adapters; leaves a run directory."""
    from skinedge.training.train import train as train_run

    settings = Settings(backbone, image_size, epochs, limit, seed, str(teacher) if teacher else None)
    bundle = train_run(make_request(data, out, settings, config, device, resume, force))
    report_training(bundle, json_)


@app.command()
def run(
    data: DataOption = None,
    out: OutOption = None,
    backbone: BackboneOption = None,
    image_size: SizeOption = None,
    epochs: EpochsOption = None,
    limit: LimitOption = None,
    seed: SeedOption = None,
    teacher: TeacherOption = None,
    device: DeviceOption = "auto",
    config: ConfigOption = None,
    resume: ResumeOption = False,
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Train, merge, export, verify and bench. ONNX and TFLite, fp32 and int8; exit 1 when a gate fails."""
    from skinedge.cli.pipeline import run_all

    settings = Settings(backbone, image_size, epochs, limit, seed, str(teacher) if teacher else None)
    run_all(make_request(data, out, settings, config, device, resume, force), json_)


@app.command()
def merge(run: RunArgument = None, data: DataOption = None, json_: JsonOption = False) -> None:
    """Merge the adapter into the base weights. The logits must stay the same."""
    from skinedge.run.manifest import MODEL
    from skinedge.training.merge import merge as merge_run

    bundle = merge_run(pick_run(run, writes=True), data)
    entry = bundle.entries()[MODEL]
    if json_:
        document = {"file": MODEL, "sha256": entry.sha256, "size_bytes": entry.size}
        emit_json("merge", document, model_id=bundle.manifest.id, model_sha256=entry.sha256)
    else:
        say(f"{bundle.root / MODEL}  {entry.size / 2**20:.1f} MiB  sha256 {entry.sha256[:12]}")


def make_request(
    data: Path | None,
    out: Path | None,
    settings: Settings,
    config: Path | None,
    device: str,
    resume: bool,
    force: bool,
) -> TrainRequest:
    """What to train; raises ConfigError, with what to do, when no data were named."""
    from dataclasses import asdict

    from skinedge.run.config import load_config
    from skinedge.training.job import TrainRequest, find_unfinished

    if data is None:
        raise ConfigError(
            "no images named",
            todo="Give a folder of labelled images: --data DIR. Sample data: skinedge data synth OUT, then --data OUT.",
        )
    if resume and force:
        raise ConfigError("--resume and --force contradict each other", todo="Give one of them.")
    if out is None:
        stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
        out = find_unfinished() if resume else Path("runs") / f"{data.resolve().stem}-{stamp}"
        note(f"run: {out}")
    elif out.name in ("", ".."):
        raise ConfigError("--out must name the run directory to make", where=str(out))
    return TrainRequest(data, out, load_config(config).with_options(asdict(settings)), device, resume, force)


def report_training(bundle: Bundle, json_: bool) -> None:
    training = bundle.manifest.training
    adapter = "adapter/adapter_model.safetensors"
    bundle.file(adapter)
    entry = bundle.entries()[adapter]
    best = training.get("best", {})
    if json_:
        document = {"run": str(bundle.root), "labels": list(bundle.manifest.labels), "best": best}
        emit_json("train", document, model_id=bundle.manifest.id, model_sha256=entry.sha256)
        return
    rows = [
        ("backbone", f"{training['backbone']} at {bundle.manifest.preprocess.size} px"),
        (
            "images (train, val, cal, test)",
            ", ".join(str(sum(c.values())) for c in training["data"]["counts"].values()),
        ),
        ("best epoch", figure(best.get("epoch"), 0)),
        ("validation balanced accuracy", figure(best.get("val_balanced_accuracy"), 3)),
        ("validation macro AUC", figure(best.get("val_macro_auc"), 3)),
        ("training time", f"{training['seconds'] / 60:.1f} min"),
        ("adapter", f"{entry.size / 2**20:.2f} MiB"),
    ]
    title = f"trained: {bundle.root}" + ("  (SYNTHETIC images)" if bundle.manifest.synthetic else "")
    table(title, ("", ""), rows)
