"""An evaluation in sentences: how often the model is right, and how many images of each kind it flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skinedge.core.taxonomy import full_name

Counts = Sequence[int]  # flagged, all


@dataclass(frozen=True)
class Summary:
    """What the sentences tell.

    about: the images, e.g. '597 test images'; accuracy, balanced_accuracy: 0..1, NaN or None if undefined; threshold:
    of the malignant score; flagged: label -> images flagged of all of the class; both None if nothing is flagged;
    malignant: the malignant and premalignant labels; worst_group: a sentence, '' for none.
    """

    about: str
    accuracy: float | None
    balanced_accuracy: float | None
    threshold: float | None
    flagged: Mapping[str, Counts] | None
    malignant: Sequence[str]
    worst_group: str = ""

    def sentences(self) -> list[str]:
        """Return the summary, two to four sentences."""
        shares = [
            f"{name} {100 * value:.1f} %"
            for name, value in (("accuracy", self.accuracy), ("balanced accuracy", self.balanced_accuracy))
            if value is not None and value == value
        ]
        lines = [f"On {self.about}: {', '.join(shares) or 'no accuracy is defined'}."]
        if self.flagged is None or self.threshold is None:
            return [*lines, "No image is flagged: the file has no threshold for malignant classes."]
        benign = [label for label in self.flagged if label not in self.malignant]
        classes = [
            f"{full_name(label)} {_of(self.flagged[label])}" for label in self.malignant if self.flagged[label][1]
        ]
        malignant, alarms = _total(self.flagged, self.malignant), _total(self.flagged, benign)
        lines.append(
            f"Flagged as malignant (score {self.threshold:.3f} or more): {malignant} malignant images, "
            f"and {alarms} benign ones (false alarms)."
        )
        lines += [f"Flagged by class: {', '.join(classes)}."] if classes else []
        return [*lines, *([self.worst_group] if self.worst_group else [])]


def _of(counts: Counts) -> str:
    return f"{counts[0]} of {counts[1]}"


def _total(flagged: Mapping[str, Counts], labels: Sequence[str]) -> str:
    return _of([sum(flagged[label][i] for label in labels) for i in (0, 1)])
