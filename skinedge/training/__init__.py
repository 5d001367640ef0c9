"""`skinedge train` and `skinedge merge`. Needs torch."""
