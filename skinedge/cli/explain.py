"""skinedge explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, pick_run_or_file, say
from skinedge.cli.options import FileOption, ImagesArgument, JsonOption, RunOption
from skinedge.cli.predict import introduce
from skinedge.core.files import check_writable
from skinedge.system.progress import note_error

if TYPE_CHECKING:
    from skinedge_bench.explain.saliency import Explainer


@app.command()
def explain(
    images: ImagesArgument,
    run: RunOption = None,
    file: FileOption = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="Class to explain, e.g. mel or melanoma. [default: the top class of each image]",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="Use gradcam or gradcam++ (from the run's merged network, needs torch), or cam (the heatmap that an "
            "exported file outputs) [gradcam where available, else cam].",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the pictures.")] = Path("explanations"),
    json: JsonOption = False,
) -> None:
    """Show where in each image the model finds evidence for a class, as a heatmap with the probability."""
    from skinedge_bench.explain.explain import Failure, check_out, save, unique_stems
    from skinedge_bench.explain.explain import explain as run_explain
    from skinedge_bench.predict.predict import find_images, sources

    check_out(out, images)
    check_writable(out)
    explainer = choose(run, file, method, label)
    model, paths = explainer.model, find_images(images)
    results = run_explain(explainer, sources(paths), label)
    if not json:
        say(NOTICE)
    failed = 0
    for stem, result in zip(unique_stems(paths), results, strict=True):
        document = result.document(model.labels)
        if isinstance(result, Failure):
            failed += 1
            line = f"{result.image}: error: {result.error}"
        else:
            picture = save(out, stem, result, explainer, NOTICE)
            document["picture"] = str(picture)
            line = f"{result.image}: {document['class']} {document['class_probability']:.3f} -> {picture}"
        if json:
            emit_json("explain", document, model_id=model.model_id, model_sha256=model.sha256)
        else:
            say(line)
    if failed:
        note_error(f"{failed} image(s) could not be explained")
        raise typer.Exit(1)


def choose(run: Path | None, file: str | None, method: str | None, label: str | None = None) -> Explainer:
    """Open the explainer and name it on screen.

    label: the class to explain, checked before PyTorch is imported. Raises: as `explain.saliency.open_explainer`;
    ConfigError for an unknown class.
    """
    from skinedge.core.taxonomy import label_of
    from skinedge_bench.explain.saliency import NAMES, check_method, open_explainer

    check_method(method)
    source = pick_run_or_file(run)
    if label is not None and not isinstance(source, Path):
        label_of(label, source.manifest.labels)
    explainer = open_explainer(source, file, method)
    introduce(explainer.model)
    note(f"heatmap: {NAMES[explainer.method]}")
    return explainer
