"""Train, export and verify skin-lesion classifiers for phones and Raspberry Pis."""

import os

__version__ = "0.1.0"

# ONNX Runtime 1.29 and later send telemetry, and read this variable at their first import. Set it to 0 to allow that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
