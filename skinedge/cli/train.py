"""skinedge train, merge and run."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import emit_json, figure, note, say, table
from skinedge.cli.option_groups import expand_groups
from skinedge.cli.options import DataOption, FolderOptions, FoldersOption, JsonOption, RunArgument
from skinedge.core.errors import ConfigError

if TYPE_CHECKING:
    from skinedge.run.run_directory import Bundle
    from skinedge.training.job import TrainRequest


@dataclass(frozen=True)
class TrainOptions:
    """The options of `train` and `run`; None: not given."""

    data: FoldersOption = None
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Run directory to create. [default: a new one in runs/]")
    ] = None
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="Backbone, a timm model name. [default: tf_efficientnet_lite0]")
    ] = None
    image_size: Annotated[
        int | None, typer.Option(metavar="PX", help="Side length of the input, in pixels. [default: 224]")
    ] = None
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training images. [default: 10]")] = (
        None
    )
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Use at most N images, stratified by class. [default: all]")
    ] = None
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of split, order and augmentation. [default: 0]")
    ] = None
    teacher: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Distil from this merged run of the same classes; several: from their mean."),
    ] = None
    device: Annotated[str, typer.Option(metavar="NAME", help="Device to train on: auto, cpu or cuda.")] = "auto"
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Read settings from this file; options override it.")
    ] = None
    log: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", help="Write each epoch's figures to the run too, in reports/: csv or tensorboard."
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.")] = False
    force: Annotated[bool, typer.Option("--force", help="Replace the run at --out.")] = False

    def settings(self) -> dict[str, str | tuple[str, ...] | int | None]:
        """Return the settings that take precedence over the config file."""
        names = ("backbone", "image_size", "epochs", "limit", "seed")
        settings = {name: getattr(self, name) for name in names}
        teachers = tuple(map(str, self.teacher or ()))
        return {**settings, "teacher": teachers if len(teachers) > 1 else next(iter(teachers), None)}


@app.command()
@expand_groups
def train(options: TrainOptions, folder: FolderOptions, json: JsonOption = False) -> None:
    """Train LoRA adapters and create a run directory."""
    from skinedge import api

    report_training(api.train(make_request(options, folder)), json)


@app.command()
@expand_groups
def run(
    options: TrainOptions,
    folder: FolderOptions,
    json: JsonOption = False,
) -> None:
    """Train, merge, export, verify and bench.

    Exports ONNX and TFLite in fp32 and int8. Exits with 1 if a gate fails.
    """
    from skinedge.cli.pipeline import run_all

    run_all(make_request(options, folder), json=json)


@app.command()
def merge(run: RunArgument = None, data: DataOption = None, json: JsonOption = False) -> None:
    """Merge the adapters into the base weights.

    Fails if the merged model's logits differ.
    """
    from skinedge import api
    from skinedge.run.manifest import MODEL

    bundle = api.merge(run, data)
    entry = bundle.entries()[MODEL]
    if json:
        document = {"file": MODEL, "sha256": entry.sha256, "size_bytes": entry.size}
        emit_json("merge", document, model_id=bundle.manifest.id, model_sha256=entry.sha256)
    else:
        say(f"{bundle.root / MODEL}  {entry.size / 2**20:.1f} MiB  sha256 {entry.sha256[:12]}")


def make_request(options: TrainOptions, folder: FolderOptions) -> TrainRequest:
    """Return the training that the options ask for. Raises: ConfigError for missing or contradictory options."""
    from skinedge.run.config import load_config

    if not options.data:
        raise ConfigError(
            "no images named",
            todo="Give a folder of labelled images: --data DIR. Sample data: skinedge data synth OUT, then --data OUT.",
        )
    if options.resume and options.force:
        raise ConfigError("--resume and --force contradict each other", todo="Give one of them.")
    config = load_config(options.config).with_options(options.settings())
    from skinedge.data.sources.folders import several
    from skinedge.training.job import TrainRequest

    if len(options.data) > 1:
        data, reading = several(options.data, folder.by_source())
    else:
        data, reading = options.data[0], folder.options()
    out = options.out or _default_out("-".join(path.resolve().stem for path in options.data), resume=options.resume)
    if out.name in ("", ".."):
        raise ConfigError("--out must name the run directory to create", where=str(out))
    return TrainRequest(
        data,
        out,
        config,
        options.device,
        options.resume,
        options.force,
        reading,
        options.log or "",
    )


def _default_out(data: str, *, resume: bool) -> Path:
    """Return the unfinished run to resume, or a new run directory under runs/, and print its name."""
    from skinedge.training.job import find_unfinished

    stamp = f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    out = find_unfinished() if resume else Path("runs") / f"{data}-{stamp}"
    note(f"run: {out}")
    return out


def report_training(bundle: Bundle, json: bool) -> None:
    """Print the result of a training."""
    training = bundle.manifest.training
    adapter = "adapter/adapter_model.safetensors"
    bundle.file(adapter)
    entry = bundle.entries()[adapter]
    best = training.get("best", {})
    if json:
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
