"""skinedge ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, JsonOption, emit_json, note, say

if TYPE_CHECKING:
    from skinedge.publish.package import Evaluation


@app.command()
def ship(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run with int8 files that `verify` passed on images.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="New folder for the packed model.")],
    evaluation: Annotated[
        Path | None,
        typer.Option("--evaluation", metavar="DIR", help="What `evaluate --split test --out DIR` wrote, for the card."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a packed model at --to.")] = False,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign the manifest with a secret key of minisign's.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Pack a finished run to travel: adapter, int8 files, golden vectors, model card, licence."""
    from skinedge.publish.package import ship as pack
    from skinedge.run.run_directory import Bundle

    bundle = Bundle.open(run)
    judged = None if evaluation is None else read_evaluation(evaluation)
    packed = pack(bundle, to, judged, force=force, key=sign)
    manifest, files = packed.manifest, packed.entries()
    if not manifest.license:
        note('no licence is stated: a run\'s comes from its images, or license = "SPDX" in --config of train')
    size = sum(entry.size for entry in files.values())
    if json:
        document = {
            "to": str(to),
            "license": manifest.license,
            "size_bytes": size,
            "files": {name: {"sha256": entry.sha256, "size_bytes": entry.size} for name, entry in files.items()},
        }
        emit_json("ship", document, model_id=manifest.id, model_sha256=packed.model_sha256)
    else:
        say(f"{to}: {len(files)} files, {size / 1e6:.1f} MB, licence {manifest.license or 'not stated'}")
        note(NOTICE)


def read_evaluation(folder: Path) -> Evaluation:
    """Raises: BundleError when the folder is not what `evaluate --out` writes."""
    from skinedge.publish.package import Evaluation
    from skinedge.run.report_schemas import NOT_AN_EVALUATION
    from skinedge.run.report_schemas import read_evaluation as read
    from skinedge_bench.evaluate.tables import markdown

    path = folder / "evaluation.json"
    document = read(path)
    about = f"`{document['file']}`, judged by `skinedge evaluate` on the run's own test split."
    try:
        return Evaluation(document, markdown(document, about, []))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NOT_AN_EVALUATION(error, where=str(path)) from None
