"""skinedge ship."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, say
from skinedge.cli.options import JsonOption


@app.command()
def ship(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run with int8 files that passed `skinedge verify`.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder to create for the package.")],
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation", metavar="DIR", help="Output folder of `evaluate --split test`, for the model card."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a package at --to.")] = False,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign the manifest with this minisign secret key.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Package a finished run for distribution.

    Contains the adapter, the int8 files, the golden vectors, the model card and the licence.
    """
    from skinedge import api

    package = api.ship(run, to, evaluation, force=force, sign=sign)
    manifest, files = package.manifest, package.entries()
    if not manifest.license:
        note('no licence stated: it comes from the dataset, or from license = "SPDX" in the --config of train')
    size = sum(entry.size for entry in files.values())
    if json:
        document = {
            "to": str(to),
            "license": manifest.license,
            "size_bytes": size,
            "files": {name: {"sha256": entry.sha256, "size_bytes": entry.size} for name, entry in files.items()},
        }
        emit_json("ship", document, model_id=manifest.id, model_sha256=package.model_sha256)
    else:
        say(f"{to}: {len(files)} files, {size / 1e6:.1f} MB, licence {manifest.license or 'not stated'}")
        note(NOTICE)
