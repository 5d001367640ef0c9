"""Conversion script for TensorFlow's environment, not ours: `python -I foreign.py`, in a folder with a request.

Reads `request.json` and `model.onnx` (channels first, batch 1), for int8 also `calibration.npy` (N, S, S, 3), and
`sample.npy` (1, S, S, 3), both as the graph takes them; writes `model.tflite` and `reply.json`.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

# onnx2tf downloads this file if it is missing; it compares each operation's output for its images.
SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"


def main() -> None:
    """Run one conversion; the arguments are paths."""
    request = json.loads(Path("request.json").read_text())
    shutil.copyfile("sample.npy", SAMPLE)
    save(request, "saved")
    Path("model.tflite").write_bytes(convert(request, "saved"))
    Path("reply.json").write_text(json.dumps({"onnx2tf": version("onnx2tf"), "tensorflow": tensorflow_version()}))


def save(request: dict[str, Any], folder: str) -> None:
    """Write the network as TensorFlow's SavedModel, with the input and the outputs under our names."""
    import onnx2tf
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    network = onnx2tf.convert(
        input_onnx_file_path="model.onnx",
        output_folder_path="onnx2tf",
        not_use_onnxsim=True,  # it would search PATH for that program
        disable_model_save=True,  # files in precisions that are not needed
        non_verbose=True,
        verbosity="error",
    )
    names = [layer.partition(":")[0] for layer in network.output_names]
    if sorted(names) != sorted(request["outputs"]):
        raise ValueError(f"onnx2tf made outputs {names}, expected {request['outputs']}")
    spec = tf.TensorSpec(network.inputs[0].shape, network.inputs[0].dtype, name=request["input"])

    def values(pixels: Any) -> list[Any]:
        outputs = network(pixels)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    # constants only: onnx2tf stores some weights outside of what SavedModel tracks
    frozen = convert_variables_to_constants_v2(tf.function(values, input_signature=[spec]).get_concrete_function())
    module = tf.Module()
    module.serve = tf.function(lambda pixels: dict(zip(names, frozen(pixels), strict=True)), input_signature=[spec])
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})


def tensorflow_version() -> str:
    """Return TensorFlow's version."""
    import tensorflow as tf

    return str(tf.__version__)


def convert(request: dict[str, Any], folder: str) -> bytes:
    """Return the .tflite file; int8 is TensorFlow's: weights per channel, min-max ranges, float input and outputs."""
    import numpy as np
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if request["precision"] == "fp32":
        return bytes(converter.convert())
    images = np.load("calibration.npy", mmap_mode="r")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.array(image[None])] for image in images)
    # TensorFlow's only way to leave operations in float; nothing is debugged
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=request["float_ops"])
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_options=options)
    return bytes(debugger.get_nondebug_quantized_model())


if __name__ == "__main__":
    try:
        main()
    except (Exception, SystemExit) as error:  # onnx2tf exits on an unsupported operation
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no message"]
        print(f"\nFAILED {type(error).__name__}: {lines[0]}", file=sys.stderr)
        sys.exit(1)
