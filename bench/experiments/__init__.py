"""Programs behind the figures of README and docs/log.md; run each as `python -m experiments.NAME`."""
