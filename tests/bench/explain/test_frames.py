"""The warning of frames in heatmaps: rings of cells, and how often the strongest cell lies in one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from experiments import frame_vectors
from skinedge_bench.explain.frames import frame_ring, frame_warning, rings
from skinedge_bench.web.assets import PAGE


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


def ring_map(cells: list[tuple[int, int]], size: int = 7) -> np.ndarray:
    """Draw a map whose hot cells are those given."""
    heatmap = np.full((size, size), 0.25, dtype=np.float32)
    for cell in cells:
        heatmap[cell] = 1
    return heatmap


SECOND = [(row, column) for row, column in np.ndindex(7, 7) if rings(7, 7)[row, column] == 1]


@pytest.mark.parametrize(
    ("cells", "ring"),
    [
        (SECOND, 1),
        ([(row, column) for row, column in np.ndindex(7, 7) if rings(7, 7)[row, column] == 0], 0),
        ([(3, 3), (3, 4), (2, 3)], None),  # a spot in the middle
        ([(1, 1), (1, 2), (2, 1)], None),  # a spot at a corner of the ring: two sides
        ([(1, 3), (3, 1), (3, 5)], 1),  # three sides
        ([*SECOND, *[(row, column) for row in (2, 3, 4) for column in (2, 3, 4)]], 1),
        (list(np.ndindex(7, 7)), None),  # evidence everywhere
    ],
)
def test_a_frame_in_one_map_is_a_ring_along_the_border(cells: list[tuple[int, int]], ring: int | None) -> None:
    assert frame_ring(ring_map(cells)) == ring


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_map_too_small_for_a_ring_with_sides_has_no_frame(size: int) -> None:
    assert frame_ring(np.ones((size, size), dtype=np.float32)) is None


def test_the_shared_vectors_are_current() -> None:
    rows = json.loads(frame_vectors.VECTORS.read_text())
    assert rows == frame_vectors.vectors(), "python -m experiments.frame_vectors"
    assert all([row["ring"] for row in rows].count(ring) >= 10 for ring in (0, 1, None))


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_page_finds_the_same_frames(tmp_path: Path) -> None:
    (tmp_path / "frames.mjs").write_bytes((PAGE / "frames.js").read_bytes())
    (tmp_path / "replay.mjs").write_text(
        "import {frameRing} from './frames.mjs'; import {readFileSync} from 'node:fs';"
        "const rows = JSON.parse(readFileSync(process.argv[2]));"
        "console.log(JSON.stringify(rows.map(({values, height, width}) => frameRing(values, height, width))));"
    )
    command = ["node", str(tmp_path / "replay.mjs"), str(frame_vectors.VECTORS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [row["ring"] for row in frame_vectors.vectors()]
