"""skinedge bench."""
