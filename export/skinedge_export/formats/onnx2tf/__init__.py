"""The converter `onnx2tf`: from our ONNX graph, by onnx2tf and TensorFlow in a separate environment."""
