"""Preparation of a network for int8: calibration, ranges, equalization, rounding."""
