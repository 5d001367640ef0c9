"""`skinedge android`: copy a run's model and its card into the assets of the Android app."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skinedge.core import json_io
from skinedge.core.errors import BundleError, ConfigError
from skinedge.core.files import disk_error, path_inside, write_atomic
from skinedge.core.input_format import CONTRACTS, HEATMAP
from skinedge.run.file_card import SUFFIX, card_name, read_card
from skinedge.run.manifest import FileEntry
from skinedge.run.provenance import Tensor
from skinedge.run.run_directory import Bundle

ASSETS = Path("android-demo/app/src/main/assets")
EXPORT = "Export one: skinedge export RUN --format tflite --int8 --heatmap"


@dataclass(frozen=True)
class Pair:
    """A model file and the card beside it. heatmap: whether the model outputs one."""

    model: Path
    card: Path
    heatmap: bool


def copy_model(bundle: Bundle, folder: Path, file: str | None = None) -> Pair:
    """Copy a .tflite file of a run and its card into `folder`; replace the models there.

    Cards are written before and removed after their models, so that the next call can clean up after an interruption.

    Args:
        file: its name; None: the run's int8 file with a heatmap, else without, else the default of other precisions.
    Raises: BundleError when the run has no file for the app, or it was changed; ConfigError for an unsuitable file.
    """
    entry = choose(bundle, file)
    contents = {name: bundle.file(name).read_bytes() for name in (card_name(entry.path), entry.path)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from None
    for name, content in contents.items():
        write_atomic(path_inside(folder, name), content)
    try:
        for card in folder.glob(f"*{SUFFIX}"):
            if card.name not in contents:
                model_of(card).unlink(missing_ok=True)
                card.unlink()
    except OSError as error:
        raise disk_error(error, folder) from None
    return Pair(folder / entry.path, folder / card_name(entry.path), has_heatmap(entry))


def choose(bundle: Bundle, file: str | None = None) -> FileEntry:
    """Return the entry of the file to copy. Arguments and errors: see `copy_model`."""
    usable = {entry.path: entry for entry in bundle.model_files() if _is_usable(bundle, entry)}
    if not usable:
        raise BundleError("this run has no .tflite file that the app can use", where=str(bundle.root), todo=EXPORT)
    if file is None:
        return min(usable.values(), key=_preference)
    if file not in usable:
        raise ConfigError(
            f"this run has no file '{file}' that the app can use",
            where=str(bundle.root),
            todo=f"Suitable files: {', '.join(usable)}.",
        )
    return usable[file]


def installed(folder: Path) -> Pair | None:
    """Return the pair in an assets folder, None without one.

    Raises: BundleError for several pairs, or a card without its model.
    """
    cards = sorted(folder.glob(f"*{SUFFIX}"))
    if not cards:
        return None
    if len(cards) > 1:
        raise BundleError(f"found {len(cards)} models", where=str(folder), todo="Keep one and remove the others.")
    model = model_of(cards[0])
    if not model.is_file():
        todo = "Remove the card, or copy the model beside it."
        raise BundleError("a card without its model", where=str(cards[0]), todo=todo)
    outputs = json_io.build(read_card(cards[0]).get("outputs", []), list[Tensor], str(cards[0]))
    return Pair(model, cards[0], any(output["name"] == HEATMAP for output in outputs))


def model_of(card: Path) -> Path:
    """Return the path of the model file beside a card."""
    return card.with_name(card.name.removesuffix(SUFFIX))


def assets_folder(named: Path | None) -> Path:
    """Return the named folder, else the demo's assets. Raises: ConfigError outside a source checkout."""
    if named is not None:
        return named
    if not ASSETS.parent.is_dir():
        todo = "Run from the root of skinedge's sources, or name your app's assets with --to DIR."
        raise ConfigError(f"there is no {ASSETS.parent} here", todo=todo)
    return ASSETS


def has_heatmap(entry: FileEntry) -> bool:
    """Return True if an exported file outputs activation maps."""
    return any(output["name"] == HEATMAP for output in entry.info["outputs"])


def _is_usable(bundle: Bundle, entry: FileEntry) -> bool:
    return entry.path.endswith(".tflite") and bundle.has(card_name(entry.path))


def _preference(entry: FileEntry) -> tuple[bool, bool, int, str]:
    """Return a sort key; lowest for the best file for the app."""
    contracts = list(CONTRACTS)
    contract = next((name for name in contracts if f".{name}." in entry.path), contracts[0])
    return entry.info["precision"] != "int8", not has_heatmap(entry), contracts.index(contract), entry.path
