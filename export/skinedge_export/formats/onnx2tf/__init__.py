"""The converter `onnx2tf`: our ONNX graph through onnx2tf and TensorFlow, in an environment of their own."""
