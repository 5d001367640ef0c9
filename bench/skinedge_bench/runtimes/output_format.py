"""The class scores of a third-party model file: which output has them, and how they become probabilities.

Our own files name their outputs. For other files, the graph's last operation and the scores of a few probe images
decide; every conclusion is stated in `OutputFormat.notes`, and a doubtful one is an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError
from skinedge.core.outputs import Outputs
from skinedge.run.plugins import TensorSpec
from skinedge.stats.metrics import softmax

T = TypeVar("T", bound=Hashable)
Kind = Literal["probabilities", "logits", "log-probabilities", "sigmoid", "logit", "multi-label"]

SUM_TOLERANCE = 0.03  # deviation from 1 of a softmax quantized to 1/256
ROUNDED = 1 / 512  # error of one probability that is quantized to 1/256
ALWAYS_ONE = 0.99  # all scores above it: no softmax over several classes
UNIT_TOLERANCE = 1e-3  # by which a sigmoid may leave 0..1
# Last operations, in ONNX's and LiteRT's spelling.
SOFTMAX, LOG_SOFTMAX, SIGMOID = ("Softmax", "SOFTMAX"), ("LogSoftmax", "LOG_SOFTMAX"), ("Sigmoid", "LOGISTIC")
# Operations that move or round numbers, behind which the last operation is looked for.
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE")
MOVES = (*QUANTIZERS, "Identity", "Cast", "CAST", "Flatten", "Reshape", "RESHAPE", "Squeeze", "SQUEEZE", "Unsqueeze")
_PROBABILITIES = re.compile(r"prob|softmax", re.IGNORECASE)
_SCORES = re.compile(r"prob|softmax|score|logit|class|predict", re.IGNORECASE)
_FEATURES = re.compile(r"feature|embed|pool|hidden|flatten|(^|[^a-z])aux", re.IGNORECASE)
CHOOSE = "Choose an output with --output NAME."
_EXPLAINED: dict[Kind, str] = {
    "logits": "logits: their softmax is taken",
    "log-probabilities": "log-probabilities: their exponential is taken",
    "sigmoid": "one sigmoid: a binary classifier, probabilities 1 - p and p",
    "logit": "one logit: a binary classifier, its sigmoid is taken, probabilities 1 - p and p",
    "multi-label": "independent sigmoids (multi-label): each class has its own probability; they do not sum to 1",
}


@dataclass(frozen=True)
class Output:
    """One output of a third-party file.

    last: its last operation, None if unknown; rounded: whether its values were quantized on the way; scaled: whether
    its integers can be converted to real numbers.
    """

    spec: TensorSpec
    last: str | None = None
    rounded: bool = False
    scaled: bool = False

    @property
    def scores(self) -> int:
        """Number of scores per image: 1 for shape (N,), -1 if unknown. Meaningless if there is a `problem`."""
        return max(self.spec.shape[1:], default=1, key=abs)

    @property
    def problem(self) -> str | None:
        """Return why the output cannot be class scores; None if it can."""
        shape, dtype = self.spec.shape, self.spec.dtype
        if not shape or sum(side != 1 for side in shape[1:]) > 1:
            return "a classifier gives (N, C)"
        if dtype.startswith("float"):
            return None
        if dtype.startswith(("int", "uint")):
            return None if self.scaled else "integers without a scale: class indices, or quantized scores"
        return "not numbers"

    def __str__(self) -> str:
        return f"'{self.spec.name}' {self.spec.dtype} {_shape(self.spec.shape)}"


@dataclass(frozen=True)
class OutputFormat:
    """The meaning of a file's scores.

    name: of the output; classes: their number, 2 for a single score; max_sum_error: largest deviation of the sum of an
    image's probabilities from 1; unread: the other outputs.
    """

    name: str
    kind: Kind
    classes: int
    max_sum_error: float = SUM_TOLERANCE
    unread: tuple[str, ...] = ()

    @property
    def exclusive(self) -> bool:
        """Whether exactly one class is true for an image, so that probabilities sum to 1."""
        return self.kind != "multi-label"

    @property
    def binary(self) -> bool:
        """Whether a single score stands for two classes, the negative and the positive one."""
        return self.kind in ("sigmoid", "logit")

    @property
    def columns(self) -> int:
        """Number of scores per image."""
        return 1 if self.binary else self.classes

    def outputs(self, scores: NDArray[Any]) -> Outputs:
        """Convert scores, (N, C) or (N, 1) float32, to probabilities."""
        if self.kind == "sigmoid":
            return Outputs(np.hstack([1 - scores, scores]))
        if self.kind == "logit":
            scores = np.hstack([np.zeros_like(scores), scores])
        return Outputs(scores) if self.kind in ("probabilities", "multi-label") else Outputs(softmax(scores), scores)

    def notes(self) -> tuple[str, ...]:
        """Return what was concluded about the file, as sentences."""
        explained = f"output '{self.name}' gives {_EXPLAINED[self.kind]}" if self.kind in _EXPLAINED else ""
        chosen = f"the scores are in output '{self.name}', not in {', '.join(self.unread)}" if self.unread else ""
        return tuple(text for text in (chosen, explained) if text)


def choose(outputs: Sequence[Output], labels: int | None, wanted: str | None, where: str) -> Output:
    """Return the output that has the class scores.

    labels: number of labels that the file lists, None without a list; wanted: name of the output, if the user chose it.
    Raises: ConfigError, with the list of outputs, if none can be class scores or several can.
    """
    if wanted is not None:
        chosen = next((output for output in outputs if output.spec.name == wanted), None)
        if chosen is None:
            raise _refusal(f"the file has no output '{wanted}'", outputs, where, CHOOSE)
        if chosen.problem:
            raise ConfigError(f"output {chosen} cannot be class scores: {chosen.problem}", where=where)
        return chosen
    possible = [output for output in outputs if output.problem is None]
    if not possible:
        reason = outputs[0].problem if len(outputs) == 1 else "a classifier gives (N, C)"
        raise _refusal(f"no output has class scores: {reason}", outputs, where)
    if len(outputs) > 1 and any(len(o.spec.shape) > 2 and o.spec.shape[-1] == 4 for o in outputs):
        raise _refusal("this is an object detector, not a classifier", outputs, where)
    if len(possible) == 1:
        return possible[0]
    fitting = [output for output in possible if labels in (None, output.scores) or _is_binary(output, labels)]
    if not fitting:
        raise _refusal(f"the file lists {labels} labels, and no output has as many classes", outputs, where, CHOOSE)
    chosen = _by_name(fitting)
    if chosen is None:
        raise _refusal("several outputs could be the class scores", outputs, where, CHOOSE)
    return chosen


def _by_name(outputs: Sequence[Output]) -> Output | None:
    """Return the output that names and last operations show to be the scores; None in doubt.

    Among outputs of as many classes, probabilities are preferred to their logits. Other outputs are excluded only by
    the name of what they are: 'features', 'embedding', ...
    """
    named = [output for output in outputs if not _FEATURES.search(output.spec.name)]
    if len(outputs) == 1 or (len(named) == 1 and _SCORES.search(named[0].spec.name)):
        return (named or outputs)[0]
    if len({output.scores for output in named}) != 1 or not all(_SCORES.search(o.spec.name) for o in named):
        return None
    probabilities = [o for o in named if o.last in SOFTMAX or _PROBABILITIES.search(o.spec.name)]
    return probabilities[0] if len(probabilities) == 1 else None


def kind_of(output: Output, scores: NDArray[Any], where: str) -> Kind:
    """Return the kind of an output. scores: (N, C) float32, of probe images.

    Raises: ConfigError for a softmax that is always 1.
    """
    rows = scores.astype(np.float64)
    within_unit = bool(((rows >= -UNIT_TOLERANCE) & (rows <= 1 + UNIT_TOLERANCE)).all())
    if output.last in SOFTMAX and bool((rows > ALWAYS_ONE).all()):
        raise ConfigError(
            f"output {output} is always 1: it is the softmax of one number, which says nothing",
            where=where,
            todo="Convert the network again, with the softmax over its classes, or a sigmoid for a single score.",
        )
    if rows.shape[1] == 1:
        return "sigmoid" if output.last in SIGMOID or within_unit else "logit"
    if output.last in SIGMOID:
        return "multi-label"
    if output.last in SOFTMAX or (bool((rows >= 0).all()) and _sum_to_one(rows, sum_tolerance(output, rows.shape[1]))):
        return "probabilities"
    if within_unit:
        return "multi-label"
    below_zero = bool((rows <= UNIT_TOLERANCE).all())
    if output.last in LOG_SOFTMAX or (below_zero and _sum_to_one(np.exp(rows), SUM_TOLERANCE)):
        return "log-probabilities"
    return "logits"


def format_of(output: Output, outputs: Sequence[Output], scores: NDArray[Any], where: str) -> OutputFormat:
    """Describe the chosen output. scores: (N, C) float32, of probe images. Raises: as `kind_of`."""
    classes, kind = scores.shape[1], kind_of(output, scores, where)
    unread = tuple(str(other) for other in outputs if other is not output)
    return OutputFormat(output.spec.name, kind, max(classes, 2), sum_tolerance(output, classes), unread)


def sum_tolerance(output: Output, classes: int) -> float:
    """Return how far a sum of probabilities may be from 1: rounding adds up over many classes."""
    rounded = output.rounded or not output.spec.dtype.startswith("float")
    return max(SUM_TOLERANCE, classes * ROUNDED if rounded else 0)


def named_classes(format: OutputFormat, labels: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return distinct names of the classes, and notes about them.

    labels: the file's list, None without one. A binary classifier may list both classes or the positive one only.
    Raises: ValueError if the list has another length.
    """
    if labels is None:
        if format.binary:
            return ("negative", "positive"), ("no class names in the file: the classes are called negative, positive",)
        numbered = tuple(f"class {index}" for index in range(format.classes))
        return numbered, ("no class names in the file: classes are numbered",)
    names, notes = tuple(labels), []
    if format.binary and len(names) == 1:
        names = (f"not {names[0]}", names[0])
    elif format.binary:
        notes.append(f"p is the probability of '{names[-1]}', the second label")
    if len(names) != format.classes:
        raise ValueError(f"the file lists {len(labels)} labels but has {format.classes} outputs")
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        notes.append(f"labels that occur more than once get their number: {', '.join(sorted(repeated))}")
        names = tuple(f"{name} (class {i})" if name in repeated else name for i, name in enumerate(names))
        if len(set(names)) < len(names):  # another label is written like this
            names = tuple(f"{name} (class {i})" for i, name in enumerate(labels))
    return names, tuple(notes)


def last_operation(tensor: T, producers: Mapping[T, tuple[str, Sequence[T]]]) -> tuple[str | None, bool]:
    """Return the operation that computes a tensor, behind those that move or round it, and whether one rounds it.

    producers: tensor -> (operation, inputs).
    """
    rounded = False
    for _ in range(len(producers)):
        operation, inputs = producers.get(tensor, (None, ()))
        if operation not in MOVES or not inputs:
            return operation, rounded
        rounded |= operation in QUANTIZERS
        tensor = inputs[0]
    return None, rounded


def _is_binary(output: Output, labels: int | None) -> bool:
    return output.scores == 1 and labels in (1, 2)


def _sum_to_one(rows: NDArray[Any], tolerance: float) -> bool:
    return bool((np.abs(rows.sum(axis=1) - 1) <= tolerance).all())


def _refusal(what: str, outputs: Collection[Output], where: str, todo: str | None = None) -> ConfigError:
    return ConfigError(f"{what}; its outputs: {', '.join(map(str, outputs))}", where=where, todo=todo)


def _shape(shape: Sequence[int]) -> str:
    """Format a shape; '?' for a free dimension."""
    return "(" + ", ".join("?" if side == -1 else str(side) for side in shape) + ")"
