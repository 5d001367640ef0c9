"""skinedge export."""
