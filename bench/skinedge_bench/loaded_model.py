"""A loaded model file: a session with the metadata of its run or of the file itself."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core import taxonomy
from skinedge.core.colour import AS_STORED
from skinedge.core.errors import BundleError, ConfigError
from skinedge.core.files import sha256
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.class_order import class_contradiction
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.file_card import card_beside, check_card, refuse_card
from skinedge.run.file_trial import FREE_SIDE, open_tried
from skinedge.run.manifest import MANIFEST, MODEL, FileEntry, Manifest
from skinedge.run.plugins import Session, judge_for
from skinedge.run.run_directory import Bundle
from skinedge.system.cpu_features import cpu_features
from skinedge_bench.device import saturation
from skinedge_bench.runtimes.input_layout import input_side
from skinedge_bench.runtimes.output_format import SUM_TOLERANCE, OutputFormat, named_classes
from skinedge_bench.runtimes.session import FileSession, label_list

_NOT_FITTED = "no threshold was fitted for this file: using the threshold of the merged network"
_UNKNOWN = "no run or card found beside the file: the threshold of the malignant score is unknown"


@dataclass(frozen=True)
class LoadedModel:
    """One open model file.

    labels: in the order of the outputs; size: side of its input in pixels; colour: rule for embedded colour profiles
    (`skinedge.core.colour`); malignant: indices of the classes in the
    malignant score, None if the classes are unknown; melanoma: index of its class, None without one; precision: fp32,
    int8, ... or 'unknown'; threshold: malignant score at and above which a lesion is flagged, None if neither run nor
    card has one; assumptions: notes about properties that the file does not specify; output_format: of a third-party
    file's scores, None for a skinedge file or a third-party runtime.
    """

    path: Path
    sha256: str
    runtime: str
    session: Session
    model_id: str | None
    labels: tuple[str, ...]
    size: int
    colour: str
    malignant: tuple[int, ...] | None
    melanoma: int | None
    threshold: float | None
    precision: str
    synthetic: bool = False
    assumptions: tuple[str, ...] = ()
    output_format: OutputFormat | None = None

    @property
    def name(self) -> str:
        """File name."""
        return self.path.name

    @property
    def exclusive(self) -> bool:
        """Whether exactly one class is true for an image; False for a multi-label file."""
        return self.output_format is None or self.output_format.exclusive

    @property
    def max_sum_error(self) -> float:
        """Largest deviation of the sum of an image's probabilities from 1; infinite for a multi-label file."""
        if not self.exclusive:
            return math.inf
        return SUM_TOLERANCE if self.output_format is None else self.output_format.max_sum_error

    @property
    def output_document(self) -> dict[str, object]:
        """The output that a third-party file's predictions come from, for JSON documents; {} for a skinedge file."""
        chosen = self.output_format
        return {} if chosen is None else {"output": {"name": chosen.name, "kind": chosen.kind}}

    @property
    def saturation(self) -> str | None:
        """Warning if this CPU computes the file differently from others; see `device.saturation`."""
        return saturation({self.name: self.precision}, cpu_features())

    def run(self, pixels: Pixels) -> Outputs:
        """Run the model on prepared images. pixels: (N, S, S, 3) uint8."""
        return self.session.run(pixels)


def open_listed(bundle: Bundle, name: str | None = None, *, threads: int = 1) -> LoadedModel:
    """Open a file of a run (default: the manifest's default file); check its hash and its description.

    Raises: BundleError when the run has no such file, it was changed, or it contradicts the manifest or its card.
    """
    listed = name or default_file(bundle)
    path = bundle.file(listed)
    runtime = judge_for(path)
    session = open_tried(path, runtime, threads, checksum=bundle.entries()[listed].sha256)
    problem = contradiction(session, bundle.manifest)
    if bundle.model_sha256 and not bundle.fits_model(bundle.entries()[listed]) and listed != MODEL:
        problem = problem or "the file was exported from another merged model than the run's current one"
    if problem:
        raise BundleError(problem, where=str(path), todo="Export it again: skinedge export RUN --format all --int8")
    check_card(bundle, listed)
    manifest = bundle.manifest
    has_threshold = listed in manifest.thresholds or listed == MODEL
    return LoadedModel(
        path=path,
        sha256=bundle.entries()[listed].sha256,
        runtime=runtime.name,
        session=session,
        model_id=manifest.id,
        labels=manifest.labels,
        size=manifest.preprocess.size,
        colour=manifest.preprocess.colour,
        malignant=manifest.malignant,
        melanoma=manifest.melanoma_index,
        threshold=manifest.threshold(listed),
        precision=str(bundle.entries()[listed].info.get("precision", "unknown")),
        synthetic=manifest.synthetic,
        assumptions=() if has_threshold else (_NOT_FITTED,),
    )


def open_model(source: Bundle | Path, file: str | None = None, output: str | None = None) -> LoadedModel:
    """Open a file of a run (default: the manifest's default file), or any model file.

    output: as in `open_file`.
    Raises: ConfigError for `file` beside a model file, or `output` for a run; as `open_listed` and `open_file`.
    """
    if isinstance(source, Bundle):
        refuse_output(output, source.root)
        return open_listed(source, file)
    if file is not None:
        raise ConfigError(f"--file {file} requires a run directory, not a model file", where=str(source))
    return open_file(source, output=output)


def open_file(path: Path, *, threads: int = 1, output: str | None = None) -> LoadedModel:
    """Open any model file, after a trial in a child process; a file listed in its folder's run is opened as that run's.

    A skinedge file outside a run takes its threshold from the card beside it (`skinedge.run.file_card`), if any.

    Args:
        output: name of the output with a third-party file's class scores; None chooses it by shape and name.
    Raises: BundleError, ConfigError when it cannot be loaded, is not an image classifier, or has another file's card;
        ConfigError when the output cannot be chosen, or is named for a skinedge file.
    """
    bundle = run_of(path)
    if bundle is not None:
        refuse_output(output, path)
        return open_listed(bundle, path.name, threads=threads)
    runtime = judge_for(path)
    session = open_tried(path, runtime, threads)
    if KEY in session.metadata:
        refuse_output(output, path)
        return _described(path, runtime.name, session)
    refuse_card(path)
    return _undescribed(path, runtime.name, session, output)


def refuse_output(output: str | None, where: Path) -> None:
    """Raise ConfigError if an output is named for a file whose outputs are known."""
    if output is not None:
        what = f"--output {output} is for .onnx and .tflite files of other tools: the outputs of this file are known"
        raise ConfigError(what, where=str(where))


def run_of(path: Path) -> Bundle | None:
    """Return the run in the file's folder that lists it, None for other files."""
    if not (path.parent / MANIFEST).is_file():
        return None
    bundle = Bundle.open(path.parent)
    return bundle if bundle.has(path.name) else None


def exported(bundle: Bundle) -> list[FileEntry]:
    """List the run's exported model files, by name. Raises: BundleError when nothing was exported."""
    entries = bundle.model_files()
    if not entries:
        raise _nothing_exported(bundle)
    return entries


def default_file(bundle: Bundle) -> str:
    """Return the name of the run's default model file. Raises: BundleError when nothing was exported."""
    if bundle.manifest.default_file is None:
        raise _nothing_exported(bundle)
    return bundle.manifest.default_file


def contradiction(session: Session, manifest: Manifest) -> str | None:
    """Return the first contradiction between a file's description and its run, None without one."""
    if problem := class_contradiction(session.metadata, manifest):
        return problem
    own = ModelDescription.from_json(session.metadata[KEY], "model file")
    if own.preprocess != manifest.preprocess:
        return f"the file's preprocessing {own.preprocess} is not the run's {manifest.preprocess}"
    if dict(own.class_prior) != dict(manifest.class_prior):
        return "the file assumes another class prior than the run"
    if own.license != manifest.license:
        return f"the file's licence is '{own.license}', the run's is '{manifest.license}'"
    if own.attribution != manifest.attribution:
        return f"the file's attribution is '{own.attribution}', the run's is '{manifest.attribution}'"
    if own.run_id != manifest.id:
        return f"the file was made from run {own.run_id}, this is run {manifest.id}"
    classes = session.outputs[0].shape[-1]
    if classes not in (-1, len(manifest.labels)):
        return f"the file has {classes} outputs, the run has {len(manifest.labels)} labels"
    return None


def _described(path: Path, runtime: str, session: Session) -> LoadedModel:
    """Load a skinedge file outside a run, by its embedded description and its card."""
    own = ModelDescription.from_json(session.metadata[KEY], str(path))
    classes = session.outputs[0].shape[-1]
    if classes not in (-1, len(own.labels)):
        raise ConfigError(f"the file describes {len(own.labels)} classes but has {classes} outputs", where=str(path))
    card = card_beside(path, own)
    score = {} if card is None else card["malignant_score"]
    assumptions = [_UNKNOWN] if card is None else [] if score.get("fitted_to_this_file") else [_NOT_FITTED]
    return LoadedModel(
        path=path,
        sha256=sha256(path),
        runtime=runtime,
        session=session,
        model_id=own.run_id,
        labels=own.labels,
        size=own.preprocess.size,
        colour=own.preprocess.colour,
        malignant=own.malignant,
        melanoma=own.melanoma_index,
        threshold=score.get("flag_from"),
        precision=own.precision,
        synthetic=own.synthetic,
        assumptions=tuple(assumptions),
    )


def _undescribed(path: Path, runtime: str, session: Session, output: str | None) -> LoadedModel:
    """Load a third-party file, by its shapes, its last operation, its label list and its TFLite Metadata, if any."""
    size = input_side(session, -1)
    assumptions = [f"shorter side to {size if size > 0 else FREE_SIDE}, centre crop, colour profiles ignored"]
    if size < 1:
        assumptions.append(f"the file takes images of any size: {FREE_SIDE} x {FREE_SIDE} pixels are used")
    if isinstance(session, FileSession):
        chosen, assumptions = session.output_format(output), [session.layout.note, *assumptions, *session.notes]
    else:  # a third-party runtime, which converts pixels and scores by itself
        refuse_output(output, path)
        chosen = OutputFormat(session.outputs[0].name, "probabilities", session.outputs[0].shape[-1])
    try:
        labels, notes = named_classes(chosen, label_list(session.metadata, str(path)))
    except ValueError as error:
        raise ConfigError(str(error), where=str(path)) from None
    malignant = _malignant(labels) if chosen.exclusive else None
    if malignant is None:
        reason = "the classes are not in the taxonomy" if chosen.exclusive else "the classes do not exclude each other"
        notes = (*notes, f"{reason}: no malignant score")
    melanomas = [i for i, label in enumerate(labels) if _is_melanoma(label)]
    return LoadedModel(
        path=path,
        sha256=sha256(path),
        runtime=runtime,
        session=session,
        model_id=None,
        labels=labels,
        size=size if size > 0 else FREE_SIDE,
        colour=AS_STORED,
        malignant=malignant,
        melanoma=melanomas[0] if len(melanomas) == 1 else None,
        threshold=None,
        precision="unknown",
        assumptions=(*assumptions, *chosen.notes(), *notes),
        output_format=chosen,
    )


def _malignant(labels: Sequence[str]) -> tuple[int, ...] | None:
    """Return the indices of malignant and premalignant classes, None for labels outside the taxonomy."""
    conditions = [taxonomy.find(label) for label in labels]
    if any(condition is None for condition in conditions):
        return None
    return tuple(i for i, condition in enumerate(conditions) if condition and condition.group != "benign")


def _is_melanoma(label: str) -> bool:
    condition = taxonomy.find(label)
    return condition is not None and condition.name == taxonomy.MELANOMA


def _nothing_exported(bundle: Bundle) -> BundleError:
    command = shlex.join(["skinedge", "export", str(bundle.root), "--format", "all", "--int8"])
    todo = f"Export files: {command}   (or name another run; skinedge runs lists them)"
    return BundleError("this run has no exported model yet", where=str(bundle.root), todo=todo)
