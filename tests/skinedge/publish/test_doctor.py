"""Rows of `skinedge doctor`."""

from __future__ import annotations

from skinedge.network.backbones import BACKBONES
from skinedge.publish import doctor


def test_the_rows_of_int8_fit_two_lines_of_a_terminal() -> None:
    accurate, lossy = doctor.int8_backbones()
    assert all(len(finding.detail) <= 2 * 50 for finding in (accurate, lossy))
    assert set(accurate.detail.split(", ")) <= {backbone.name for backbone in BACKBONES}
    assert "squeeze-excite" in lossy.detail and "skinedge backbones" in lossy.detail
