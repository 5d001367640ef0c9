"""The card of one model file, `FILE.skinedge.json` beside it: all that an app needs to use the file without its run.

A file's embedded description is fixed when it is made; the card adds facts that are known only afterwards: the file's
hash, and the threshold fitted to its predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skinedge.core.colour import AS_STORED
from skinedge.core.errors import BundleError
from skinedge.core.files import sha256
from skinedge.core.input_format import CONTRACTS, HEATMAP, LOGITS, PROBABILITIES, Contract
from skinedge.core.json_io import parse_json, read_json, refusal, to_text
from skinedge.core.preprocess import Preprocess
from skinedge.run import plugins
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.file_trial import open_tried
from skinedge.run.manifest import FileEntry, Manifest
from skinedge.run.run_directory import Bundle

SCHEMA = "skinedge.file/1"
SUFFIX = ".skinedge.json"
MEANING = {
    PROBABILITIES: "calibrated probability of each class; they sum to 1",
    LOGITS: "what the softmax of the probabilities is taken of",
    HEATMAP: "activation map of each class; its mean over height and width, plus a bias of the class, is the logit",
}


def card_name(file: str) -> str:
    """Return the name of the card of the model file `file`."""
    return f"{file}{SUFFIX}"


def card(manifest: Manifest, entry: FileEntry, description: ModelDescription) -> dict[str, Any]:
    """Build the card of a run's file. description: the one embedded in the file."""
    from skinedge.run.model_card import intended_use

    rule = description.preprocess
    return {
        "schema": SCHEMA,
        "file": entry.path,
        "sha256": entry.sha256,
        "size_bytes": entry.size,
        "precision": description.precision,
        "run_id": description.run_id,
        "name": description.name,
        "architecture": description.architecture,
        "notice": description.notice,
        "intended_use": intended_use(description.domain),
        "domain": description.domain,
        "synthetic": description.synthetic,
        "license": description.license,
        "attribution": description.attribution,
        "input": _input(entry, CONTRACTS[description.input]),
        "resize": _resize(rule),
        "outputs": [{**spec, "meaning": MEANING.get(spec["name"], "not known")} for spec in entry.info["outputs"]],
        "classes": [
            {"index": i, "label": label, "group": description.taxonomy[label], "prior": description.class_prior[label]}
            for i, label in enumerate(description.labels)
        ],
        "melanoma": description.melanoma,
        "malignant_score": {
            "sum_of": [description.labels[index] for index in description.malignant],
            "flag_from": manifest.threshold(entry.path),
            "fitted_to_this_file": entry.path in manifest.thresholds,
        },
        "made_by": entry.made_by,
        "versions": dict(entry.info["versions"]),
        **({"oldest_runtime": entry.info["oldest_runtime"]} if "oldest_runtime" in entry.info else {}),
    }


def read_description(path: Path, checksum: str | None = None) -> ModelDescription:
    """Read the description embedded in a model file.

    Args:
        checksum: SHA-256 of the file, if the caller has verified it.
    Raises: DataError when the file has no readable description.
    """
    session = open_tried(path, plugins.judge_for(path), checksum=checksum)
    return ModelDescription.from_json(session.metadata.get(KEY, ""), str(path))


def disagreement(
    actual: Mapping[str, Any], manifest: Manifest, entry: FileEntry, description: ModelDescription
) -> str | None:
    """Name the fields in which a card differs from its run and file; None if it agrees.

    Args:
        actual: the card as read from disk.
        description: the one embedded in the file.
    """
    expected = parse_json(to_text(card(manifest, entry, description)), dict[str, Any], entry.path)
    keys = {*expected, *actual} - {"made_by", "versions"}  # irrelevant to the use of the same bytes
    wrong = sorted(key for key in keys if expected.get(key) != actual.get(key))
    return f"its card has other values for: {', '.join(wrong)}" if wrong else None


def read_card(path: Path) -> dict[str, Any]:
    """Read a card. Raises: BundleError for another kind of file."""
    content = read_json(path, dict[str, Any], error=refusal("not a model file's card"))
    if content.get("schema") != SCHEMA:
        raise BundleError(f"not a model file's card of schema '{SCHEMA}'", where=str(path))
    return content


def card_beside(path: Path, own: ModelDescription) -> dict[str, Any] | None:
    """Read and check the card beside a file that is used without its run; None if there is no card.

    Args:
        own: the description embedded in the file.
    Raises: BundleError when the card belongs to another file, or contradicts this one.
    """
    card_path = path.with_name(card_name(path.name))
    if not card_path.exists():
        return None
    content, classes = read_card(card_path), [(label, own.taxonomy[label]) for label in own.labels]
    problem = None
    if content.get("sha256") != sha256(path):
        problem = f"the card belongs to another file than {path.name}, or the file was changed"
    elif content.get("run_id") != own.run_id or _classes(content) != classes:
        problem = f"the card contradicts the description in {path.name}"
    elif not _is_threshold(content.get("malignant_score")):
        problem = "the card has no valid threshold for the malignant score"
    if problem:
        raise BundleError(problem, where=str(card_path), todo="Copy the file with its card, or remove the card.")
    return content


def check_card(bundle: Bundle, file: str) -> None:
    """Check that the card of a run's file, if it has one, is of the file's bytes. Raises: BundleError."""
    name = card_name(file)
    if bundle.has(name) and read_card(bundle.file(name)).get("sha256") != bundle.entries()[file].sha256:
        what = f"the card is of other bytes than {file} has: one of them was changed, or is of an earlier export"
        raise BundleError(what, where=str(bundle.root / name), todo="Export it again: skinedge export RUN --force")


def refuse_card(path: Path) -> None:
    """Check that no card lies beside a file without a description: its card says that skinedge made the file.

    Raises: BundleError if there is one.
    """
    card_path = path.with_name(card_name(path.name))
    if card_path.exists():
        read_card(card_path)
        what = f"the card belongs to another file than {path.name}, which has no description of skinedge"
        raise BundleError(what, where=str(card_path), todo="Copy the file with its card again, or remove the card.")


def formula(contract: Contract) -> str:
    """Return the formula that converts a pixel 0..255 to an input value."""
    if (contract.offset, contract.scale) == (0, 1):
        return "the pixel itself"
    return f"(pixel - {contract.offset:g}) / {contract.scale:g}" if contract.offset else f"pixel / {contract.scale:g}"


def resize_text(rule: Preprocess) -> str:
    """Describe the preprocessing of `skinedge.core.preprocess` in a sentence."""
    colours = "RGB" if rule.colour == AS_STORED else "RGB, and colours with an embedded profile to sRGB"
    return (
        f"Turn upright by EXIF, convert to {colours}, resize the shorter side to {rule.size} pixels (bilinear with "
        f"antialiasing), cut out the centre {rule.size} x {rule.size}."
    )


def _resize(rule: Preprocess) -> dict[str, Any]:
    document = {key: value for key, value in rule.document().items() if key not in ("mean", "std")}
    return {**document, "text": resize_text(rule)}


def _input(entry: FileEntry, contract: Contract) -> dict[str, Any]:
    (spec,) = entry.info["inputs"]
    low, high = contract.range
    return {
        **spec,
        "layout": "NHWC",
        "colour": "RGB",
        "contract": contract.name,
        "formula": formula(contract),
        "black": low,
        "white": high,
    }


def _classes(content: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """Return (label, group) in the card's order; None if damaged."""
    try:
        return [(row["label"], row["group"]) for row in content["classes"]]
    except (KeyError, TypeError):
        return None


def _is_threshold(score: Any) -> bool:
    """Return True if the score's `flag_from` is a finite number, 0 or more."""
    value = score.get("flag_from") if isinstance(score, dict) else None
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
