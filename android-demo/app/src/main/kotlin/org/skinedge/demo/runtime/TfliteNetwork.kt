package org.skinedge.demo.runtime

import java.nio.ByteBuffer
import java.nio.FloatBuffer
import org.skinedge.demo.core.Network
import org.skinedge.demo.core.Tensor
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.TensorFlowLite

/** threads: CPU threads; xnnpack: use XNNPACK's kernels for the operations that it supports, else TFLite's only. */
data class RuntimeSettings(val threads: Int, val xnnpack: Boolean)

/**
 * A .tflite file in TensorFlow Lite on the CPU. Uses no Android type, so it also runs on a desktop.
 *
 * The model must be a direct buffer in native order; it is not copied. Throws the library's exceptions.
 */
class TfliteNetwork(model: ByteBuffer, settings: RuntimeSettings) : Network {
    private val interpreter = Interpreter(
        model,
        Interpreter.Options().setNumThreads(settings.threads).setUseXNNPACK(settings.xnnpack),
    )
    private val signature = interpreter.signatureKeys.firstOrNull() ?: throw IllegalArgumentException("it has no signature")
    private val inputName = interpreter.getSignatureInputs(signature).single()

    override val runtime = "litert" // the name of the .tflite runtime in `skinedge bench`
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
