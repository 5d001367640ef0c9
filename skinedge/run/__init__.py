"""The run directory: the contract between training, exporting and running."""
