"""The warning of frames in heatmaps: rings of cells, and how often the strongest cell lies in one."""

from __future__ import annotations

import numpy as np
import pytest

from skinedge_bench.explain.frames import frame_warning, rings


def maps(count: int, strongest: tuple[int, int]) -> list[np.ndarray]:
    """Draw noise, with the strongest cell of each map at one place."""
    drawn = [np.random.default_rng(i).random((7, 7), dtype=np.float32) for i in range(count)]
    for heatmap in drawn:
        heatmap[strongest] = 2
    return drawn


def test_rings_count_the_cells_to_the_border() -> None:
    assert rings(3, 4).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert np.bincount(rings(7, 7).ravel()).tolist() == [24, 16, 8, 1]


@pytest.mark.parametrize(
    ("strongest", "says"), [((1, 4), "second ring of cells"), ((6, 2), "outermost ring"), ((3, 3), None)]
)
def test_a_frame_is_said_with_its_counts(strongest: tuple[int, int], says: str | None) -> None:
    warning = frame_warning(maps(20, strongest))
    if says is None:
        assert warning is None
    else:
        assert warning is not None and says in warning and "in 20 of 20 of these maps" in warning


def test_too_few_maps_or_maps_without_evidence_give_no_warning() -> None:
    assert frame_warning([]) is None
    assert frame_warning(maps(1, (1, 1))) is None  # as chance may have it
    assert frame_warning([np.full((7, 7), -1.0)] * 20) is None


def test_noise_gives_no_warning() -> None:
    assert frame_warning([np.random.default_rng(i).random((7, 7)) for i in range(200)]) is None
