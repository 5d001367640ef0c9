"""Cards beside exported files: see `skinedge.run.file_card`."""

from __future__ import annotations

from skinedge import __version__
from skinedge.core import json_io
from skinedge.run.file_card import card, card_name, read_description
from skinedge.run.manifest import FileEntry
from skinedge.run.run_directory import Bundle
from skinedge_export.captured_output import captured_output

STAGE = "cards"


def write_cards(bundle: Bundle) -> Bundle:
    """Write a card for every exported file, once thresholds are fitted, unless the cards are up to date."""
    entries = bundle.model_files()
    texts = {card_name(entry.path): _text(bundle, entry) for entry in entries}
    made_from = {"said": json_io.digest(texts), **{entry.path: entry.sha256 for entry in entries}}
    if bundle.is_current(STAGE, made_from):
        return bundle
    with bundle.stage(STAGE, f"skinedge {__version__}", made_from) as stage:
        for name, text in texts.items():
            stage.path(name).write_text(text, encoding="utf-8")
        stage.remove(*(entry.path for entry in _existing(bundle) if entry.path not in texts))
    return bundle.reload()


def _existing(bundle: Bundle) -> tuple[FileEntry, ...]:
    """Return the entries of the run's cards, some perhaps of removed files."""
    stage = bundle.manifest.stages.get(STAGE)
    return () if stage is None else stage.files


def _text(bundle: Bundle, entry: FileEntry) -> str:
    path = bundle.file(entry.path)
    with captured_output("reading the file", entry.path):
        description = read_description(path, entry.sha256)
    return json_io.to_text(card(bundle.manifest, entry, description))
