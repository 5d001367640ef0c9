"""The description of a model that is embedded in each of its files.

safetensors: header metadata; ONNX: metadata_props; both under the key 'skinedge', as JSON.
TFLite: a zip with `skinedge.json` and `labels.txt`, appended to the file (like the associated files of TFLite
Metadata).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from skinedge.core import json_io
from skinedge.core.errors import DataError
from skinedge.core.input_format import CONTRACTS
from skinedge.core.preprocess import Preprocess
from skinedge.run.manifest import Manifest, check_classes

SCHEMA = "skinedge.model/1"
KEY = "skinedge"
LATER = {"license", "attribution"}  # missing from files of earlier versions


@dataclass(frozen=True)
class ModelDescription:
    """The part of a manifest that a model file needs to be used without its run.

    run_id: id of the run that made it; architecture: the timm name; precision: fp32, int8, ...;
    input: the contract (`skinedge.core.input_format`) of its NHWC input, for RGB pixels prepared by `preprocess`;
    taxonomy, melanoma, class_prior, license, attribution: as in `skinedge.run.manifest.Manifest`.
    """

    run_id: str
    name: str
    architecture: str
    labels: tuple[str, ...]
    taxonomy: Mapping[str, str]
    melanoma: str | None
    class_prior: Mapping[str, float]
    preprocess: Preprocess
    domain: str
    synthetic: bool
    precision: str = "fp32"
    input: str = "pixels"
    notice: str = "Research tool, not a medical device."
    license: str = ""
    attribution: str = ""
    schema: str = SCHEMA

    @property
    def malignant(self) -> tuple[int, ...]:
        """Indices of the labels that count towards the malignant score."""
        return tuple(i for i, label in enumerate(self.labels) if self.taxonomy[label] != "benign")

    @property
    def melanoma_index(self) -> int | None:
        """Index of the label that is melanoma."""
        return None if self.melanoma is None else self.labels.index(self.melanoma)

    def to_json(self) -> str:
        """Return the description as JSON; what earlier versions did not write is omitted where it says nothing new."""
        document = {key: value for key, value in asdict(self).items() if value != "" or key not in LATER}
        return json.dumps({**document, "preprocess": self.preprocess.document()})

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelDescription:
        """Read a description. Raises: DataError when this version cannot read the text."""
        damaged = json_io.refusal("damaged model description", DataError)
        raw = json_io.parse_json(text, dict[str, Any], where, error=damaged)
        names = {f.name for f in fields(cls)}
        if raw.get("schema") != SCHEMA or not names - LATER <= set(raw) <= names:
            raise DataError(f"model description has schema {raw.get('schema')!r}, expected '{SCHEMA}'", where=where)
        description = json_io.build(raw, cls, where, error=damaged)
        if description.input not in CONTRACTS:
            raise damaged(f"unknown input contract {description.input!r}", where=where)
        try:
            check_classes(description.labels, description.taxonomy, description.melanoma, description.class_prior)
        except ValueError as error:
            raise damaged(str(error), where=where) from None
        return description


def describe(manifest: Manifest, precision: str = "fp32", contract: str = "pixels") -> ModelDescription:
    """Build the description of a model file of this run. contract: that of its input."""
    return ModelDescription(
        run_id=manifest.id,
        name=manifest.name,
        architecture=str(manifest.training["backbone"]),
        labels=manifest.labels,
        taxonomy=manifest.taxonomy,
        melanoma=manifest.melanoma,
        class_prior=manifest.class_prior,
        preprocess=manifest.preprocess,
        domain=manifest.domain,
        synthetic=manifest.synthetic,
        precision=precision,
        input=contract,
        license=manifest.license,
        attribution=manifest.attribution,
    )
