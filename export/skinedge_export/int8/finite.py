"""Refusal of values that are not finite where they first occur, before they become a range in a file."""

from __future__ import annotations

import math

from skinedge.core.errors import GateError


def require_finite(layer: str, *values: float) -> None:
    """Raises: GateError if one of a layer's inputs or outputs on the calibration images is not finite."""
    if not all(map(math.isfinite, values)):
        raise GateError(
            "values on the calibration images are not finite (NaN or infinite)",
            where=layer,
            todo="Training diverged or the file is damaged: train again, with a lower learning rate.",
        )
