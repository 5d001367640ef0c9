"""What leaves the project: packages, the bundled model, the Android app's assets, `skinedge doctor`."""
