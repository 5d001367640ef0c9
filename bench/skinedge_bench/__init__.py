"""Run model files: predict, evaluate, parity, latency. Imports no torch, except runtimes/torch_*.py."""
