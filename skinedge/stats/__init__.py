"""Metrics, paired comparisons, gates and calibration: pure functions of arrays."""
