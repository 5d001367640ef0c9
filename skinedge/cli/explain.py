"""skinedge explain"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, pick_run, say
from skinedge.cli.options import FileOption, ImagesArgument, JsonOption, RunOption
from skinedge.cli.predict import introduce, open_for_judging

if TYPE_CHECKING:
    from skinedge_bench.explain.saliency import Explainer


@app.command()
def explain(
    images: ImagesArgument,
    run: RunOption = None,
    file: FileOption = None,
    label: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Class to explain; default: each image's likeliest.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="gradcam or gradcam++: from the run's merged network, with torch; cam: the map that an exported "
            "file carries. Default: gradcam where it can be had, else cam.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the pictures.")] = Path("explanations"),
    json: JsonOption = False,
) -> None:
    """Where in an image the evidence for a class is. A picture each: the image, a map over it, the probability."""
    from skinedge_bench.explain.explain import Failure, check_out, named, save
    from skinedge_bench.explain.explain import explain as run_explain
    from skinedge_bench.predict.predict import find_images

    check_out(out, images)
    explainer = choose(run, file, method)
    model, found = explainer.model, find_images(images)
    results = run_explain(explainer, found, label)
    if not json:
        say(NOTICE)
    failed = 0
    for stem, result in zip(named(found), results, strict=True):
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
        note(f"error: {failed} image(s) could not be explained")
        raise typer.Exit(1)


def choose(run: Path | None, file: str | None, method: str | None) -> Explainer:
    """Who makes the maps, said on screen. Raises: as `skinedge_bench.explain.saliency.of_run` and `of_file`."""
    from skinedge_bench.explain.saliency import NAMES, known, of_file, of_run

    known(method)
    if file is not None or (run is not None and run.is_file()):
        explainer = of_file(open_for_judging(run, file), method)
    else:
        explainer = of_run(pick_run(run, allow_synthetic=False), method)
        introduce(explainer.model)
    note(f"map: {NAMES[explainer.method]}")
    return explainer
