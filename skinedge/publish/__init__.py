"""Publishing: packed models, the bundled model, the Android app's assets, and `skinedge doctor`."""
