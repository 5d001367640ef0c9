"""The card of one model file, `FILE.skinedge.json` beside it: what an app's author must know to use it without its run.

What a file says of itself is fixed when it is made; the card also has what is only known then: the hash of the file,
and the threshold that was fitted to its answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skinedge.core.errors import BundleError
from skinedge.core.files import sha256
from skinedge.core.input_format import CONTRACTS, HEATMAP, LOGITS, PROBABILITIES, Contract
from skinedge.core.json_io import parse_json, read_json, refusal, to_text
from skinedge.run import plugins
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.file_trial import open_tried
from skinedge.run.manifest import FileEntry, Manifest
from skinedge.run.model_card import intended_use

SCHEMA = "skinedge.file/1"
SUFFIX = ".skinedge.json"
MEANING = {
    PROBABILITIES: "calibrated probability of each class; they sum to 1",
    LOGITS: "what the softmax of the probabilities is taken of",
    HEATMAP: "activation map of each class; its mean over height and width, plus a bias of the class, is the logit",
}


def card_name(file: str) -> str:
    """Name of the card of the model file `file`."""
    return f"{file}{SUFFIX}"


def card(manifest: Manifest, entry: FileEntry, said: ModelDescription) -> dict[str, Any]:
    """What the card of a run's file must hold. said: what the file says of itself."""
    rule = said.preprocess
    return {
        "schema": SCHEMA,
        "file": entry.path,
        "sha256": entry.sha256,
        "size_bytes": entry.size,
        "precision": said.precision,
        "run_id": said.run_id,
        "name": said.name,
        "architecture": said.architecture,
        "notice": said.notice,
        "intended_use": intended_use(said.domain),
        "domain": said.domain,
        "synthetic": said.synthetic,
        "license": said.license,
        "attribution": said.attribution,
        "input": _input(entry, CONTRACTS[said.input]),
        "resize": {"size": rule.size, "resize": rule.resize, "crop": rule.crop, "text": resize_text(rule.size)},
        "outputs": [{**spec, "meaning": MEANING.get(spec["name"], "not known")} for spec in entry.info["outputs"]],
        "classes": [
            {"index": i, "label": label, "group": said.taxonomy[label], "prior": said.class_prior[label]}
            for i, label in enumerate(said.labels)
        ],
        "melanoma": said.melanoma,
        "malignant_score": {
            "sum_of": [said.labels[index] for index in said.malignant],
            "flag_from": manifest.threshold(entry.path),
            "fitted_to_this_file": entry.path in manifest.thresholds,
        },
        "made_by": entry.made_by,
        "versions": dict(entry.info["versions"]),
    }


def own_account(path: Path) -> ModelDescription:
    """What a model file says of itself. Raises: DataError when it says nothing that can be read."""
    session = open_tried(path, plugins.judge_for(path))
    return ModelDescription.from_json(session.metadata.get(KEY, ""), str(path))


def disagreement(found: Mapping[str, Any], manifest: Manifest, entry: FileEntry, said: ModelDescription) -> str | None:
    """What a card says that its run and file do not; None when they agree. found: the card as it was read."""
    expected = parse_json(to_text(card(manifest, entry, said)), dict[str, Any], entry.path)
    said_keys = {*expected, *found} - {"made_by", "versions"}  # who made the same bytes changes nothing of their use
    wrong = sorted(key for key in said_keys if expected.get(key) != found.get(key))
    return f"its card says otherwise: {', '.join(wrong)}" if wrong else None


def read_card(path: Path) -> dict[str, Any]:
    """Read a card; raises BundleError for what is none."""
    found = read_json(path, dict[str, Any], error=refusal("not a model file's card"))
    if found.get("schema") != SCHEMA:
        raise BundleError(f"not a model file's card of schema '{SCHEMA}'", where=str(path))
    return found


def card_beside(path: Path, own: ModelDescription) -> dict[str, Any] | None:
    """The card that lies beside a file without its run, checked; None where there is none.

    own: what the file says of itself.
    Raises: BundleError when it is of another file, or contradicts this one.
    """
    place = path.with_name(card_name(path.name))
    if not place.exists():
        return None
    found = read_card(place)
    problem = None
    if found.get("sha256") != sha256(path):
        problem = f"the card is of another file than {path.name}, or the file was changed"
    elif _classes(found) != [(label, own.taxonomy[label]) for label in own.labels] or found.get("run_id") != own.run_id:
        problem = f"the card contradicts what {path.name} says of itself"
    elif not _is_threshold(found.get("malignant_score")):
        problem = "the card has no sound threshold for the malignant score"
    if problem:
        raise BundleError(problem, where=str(place), todo="Copy the file and its card together, or remove the card.")
    return found


def formula(contract: Contract) -> str:
    """How a pixel 0..255 becomes a number of the input."""
    if (contract.offset, contract.scale) == (0, 1):
        return "the pixel itself"
    return f"(pixel - {contract.offset:g}) / {contract.scale:g}" if contract.offset else f"pixel / {contract.scale:g}"


def resize_text(size: int) -> str:
    """The rule of `skinedge.core.preprocess`, in a sentence."""
    return (
        f"Turn upright by EXIF, convert to RGB, resize the shorter side to {size} pixels (bilinear with antialiasing), "
        f"cut out the centre {size} x {size}."
    )


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


def _classes(found: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """(label, group) in the card's order."""
    try:
        return [(row["label"], row["group"]) for row in found["classes"]]
    except (KeyError, TypeError):
        return None


def _is_threshold(score: Any) -> bool:
    """Whether it is a number, 0 or more."""
    value = score.get("flag_from") if isinstance(score, dict) else None
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
