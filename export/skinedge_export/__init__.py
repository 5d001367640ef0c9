"""Write model files: converters, quantization, calibration, metadata."""
