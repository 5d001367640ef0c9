"""Ground floor: errors, safe reading of files, preprocessing, classes. NumPy and Pillow only."""
