"""skinedge runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skinedge.cli.app import app
from skinedge.cli.common import emit_json, figure, note, say, table
from skinedge.cli.options import JsonOption

if TYPE_CHECKING:
    from skinedge.run.run_directory import Bundle

COLUMNS = ("run", "date", "backbone", "classes", "images", "bal. acc.", "files")
ACCURACY = "bal. acc.: balanced accuracy on the validation split, of the best epoch."


@app.command()
def runs(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR | RUN...]", help="Folder of runs, or runs to compare.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the runs of a folder, or compare runs side by side. [default: runs/]"""
    bundles = find_runs(paths or [Path("runs")])
    rows = [describe(bundle) for bundle in bundles]
    if json:
        emit_json("runs", {"runs": rows}, model_id=None, model_sha256=None)
    elif paths and len(paths) > 1:
        settings = [_settings(bundle) for bundle in bundles]
        names = list(dict.fromkeys(name for one in settings for name in one))
        differing = [name for name in names if len({str(one.get(name)) for one in settings}) > 1]
        cells = [(key, *(row[key] for row in rows)) for key in COLUMNS[1:]]
        cells += [(name, *(str(one.get(name, "-")) for one in settings)) for name in differing if name != "backbone"]
        table("Figures, and the settings that differ", ("", *(str(bundle.root) for bundle in bundles)), cells)
        say(ACCURACY)
    else:
        table("Runs, newest first", COLUMNS, [tuple(row.values()) for row in rows])
        say(ACCURACY)


def find_runs(paths: list[Path]) -> list[Bundle]:
    """Open the named runs; of one folder that is no run, the runs in it, newest first. Raises: BundleError."""
    from skinedge.core.errors import BundleError, SkinedgeError
    from skinedge.run.manifest import MANIFEST
    from skinedge.run.run_directory import Bundle

    if len(paths) > 1 or (paths[0] / MANIFEST).is_file():
        return [Bundle.open(path) for path in paths]
    bundles = []
    for manifest in sorted(paths[0].glob(f"*/{MANIFEST}")):
        try:
            bundles.append(Bundle.open(manifest.parent))
        except SkinedgeError as error:
            note(f"left out: {str(error).splitlines()[0]}")
    if not bundles:
        raise BundleError("no run in this folder", where=str(paths[0]), todo="Make one: skinedge run --data DIR")
    return sorted(bundles, key=lambda bundle: (bundle.manifest.created_at, bundle.manifest.id), reverse=True)


def describe(bundle: Bundle) -> dict[str, Any]:
    """Return the figures of a run by column; None if unknown."""
    manifest = bundle.manifest
    training = manifest.training
    counts = training.get("data", {}).get("counts", {})
    images = sum(sum(classes.values()) for classes in counts.values())
    values = (
        str(bundle.root),
        manifest.created_at[:10],
        training.get("backbone"),
        len(manifest.labels),
        images or None,
        figure(training.get("best", {}).get("val_balanced_accuracy"), 3),
        ", ".join(entry.path.removeprefix("model.") for entry in bundle.model_files()) or None,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _settings(bundle: Bundle) -> dict[str, Any]:
    """Return the settings of a training, 'table.key' for those in tables."""
    settings: dict[str, Any] = {}
    for key, value in bundle.manifest.training.get("config", {}).items():
        settings |= {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
    return settings
