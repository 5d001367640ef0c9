"""The run directory: the interface between training, exporting and running."""
