"""The table of cells that `make matrix` tries: inputs, options and machines beside the usual ones."""
