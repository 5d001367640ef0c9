"""File formats: one converter each, named in the entry points `skinedge.converters`."""
