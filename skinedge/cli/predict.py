"""skinedge predict."""
