"""skinedge evaluate."""
