"""`skinedge evaluate`: metrics with confidence intervals, subgroups, tables and plots."""
