"""The graph that is exported: normalization, network and outputs, traced once."""
