"""skinedge train."""
