"""skinedge data."""
