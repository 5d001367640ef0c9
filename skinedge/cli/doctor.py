"""skinedge doctor."""
