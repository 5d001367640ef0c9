"""`skinedge verify`: every model file against the merged network in PyTorch."""
