"""skinedge: labelled skin images in, a verified classifier for phones and Raspberry Pis out."""

import os

__version__ = "0.1.0"

# ONNX Runtime from 1.29 on reports its use to its makers, and reads this when it is first imported. Who wants that
# sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
