"""Runtimes: one file each, named in the entry points `skinedge.runtimes`."""
