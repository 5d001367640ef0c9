"""skinedge verify."""
