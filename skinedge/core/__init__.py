"""Foundation for every package: errors, safe file reading, preprocessing, classes. Needs NumPy and Pillow only."""
