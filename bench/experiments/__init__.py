"""Programs that print the figures of README and docs/log.md; each is run as `python -m experiments.NAME`."""
