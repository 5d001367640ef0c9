"""Datasets: readers, splits, checks, synthetic images. NumPy and Pillow only."""
