"""Datasets: readers, splits, audits, synthetic images. Needs NumPy and Pillow only."""
