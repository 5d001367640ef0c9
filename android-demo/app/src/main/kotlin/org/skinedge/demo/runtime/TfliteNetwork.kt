package org.skinedge.demo.runtime

import java.nio.ByteBuffer
import java.nio.FloatBuffer
import org.skinedge.demo.core.Network
import org.skinedge.demo.core.Tensor
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.TensorFlowLite

/** threads: of the CPU; xnnpack: whether XNNPACK's kernels compute what they can, or TFLite's own all of it. */
data class RuntimeSettings(val threads: Int, val xnnpack: Boolean)

/**
 * A .tflite file in TensorFlow Lite, on the CPU. Names no Android type, so that a desktop runs it as it is.
 *
 * The model must be a direct buffer in native order, and is not copied. Throws what the library throws.
 */
class TfliteNetwork(model: ByteBuffer, settings: RuntimeSettings) : Network {
    private val interpreter = Interpreter(
        model,
        Interpreter.Options().setNumThreads(settings.threads).setUseXNNPACK(settings.xnnpack),
    )
    private val signature = interpreter.signatureKeys.firstOrNull() ?: throw IllegalArgumentException("it has no signature")
    private val inputName = interpreter.getSignatureInputs(signature).single()

    override val runtime = "litert" // as `skinedge bench` calls the runtime of .tflite files
    override val version: String = TensorFlowLite.runtimeVersion()
    override val input = described(inputName, interpreter.getInputTensorFromSignature(inputName, signature))
    override val outputs = interpreter.getSignatureOutputs(signature).map {
        described(it, interpreter.getOutputTensorFromSignature(it, signature))
    }

    init {
        interpreter.allocateTensors()
    }

    override fun run(input: ByteBuffer): Map<String, FloatArray> {
        val results = outputs.associate { it.name to FloatBuffer.allocate(it.shape.fold(1, Int::times)) }
        interpreter.runSignature(mapOf(inputName to input), results, signature)
        return results.mapValues { it.value.array() }
    }

    override fun close() = interpreter.close()

    private fun described(name: String, tensor: org.tensorflow.lite.Tensor) =
        Tensor(name, tensor.shape().toList(), tensor.dataType().name.lowercase())
}
