package org.skinedge.demo.core

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest

/**
 * A verified model: pixels in, probabilities out. For one thread at a time.
 *
 * Created only by [Classifier.open], which checks the file against its card.
 */
class Classifier private constructor(val card: ModelCard, val network: Network) : AutoCloseable {
    private val input = ByteBuffer.allocateDirect(card.size * card.size * 3 * if (card.input.dtype == "uint8") 1 else 4)
        .order(ByteOrder.nativeOrder())
    private val values = FloatArray(256) { card.black + it * (card.white - card.black) / 255f }

    /** Classifies a photo. Throws [FaultException]: PHOTO_STRIP, NO_NUMBERS, or the faults of reading the photo. */
    fun classify(photo: Photo): Answer = classify(prepare(photo, card.size))

    /** Classifies pixels. Throws [FaultException] NO_NUMBERS; IllegalArgumentException for a size other than the card's. */
    fun classify(image: Prepared): Answer {
        val said = run(image)
        if (said.values.any { output -> output.any { it.isNaN() || it.isInfinite() } }) throw FaultException(Fault.NO_NUMBERS)
        return Answer(card, said.getValue(ModelCard.PROBABILITIES), said[ModelCard.HEATMAP])
    }

    /** Writes the input and runs the inference, for benchmarks. */
    fun run(image: Prepared): Map<String, FloatArray> {
        require(image.size == card.size) { "pixels of side ${image.size} for a model of ${card.size}" }
        input.toStart()
        if (card.input.dtype == "uint8") {
            input.put(image.rgb)
        } else {
            for (byte in image.rgb) input.putFloat(values[byte.toInt() and 255])
        }
        input.toStart()
        return network.run(input)
    }

    override fun close() = network.close()

    companion object {
        /**
         * Opens a model and checks it against its card: hash, tensors, number of classes.
         *
         * model: the complete file; load: opens it in an inference library, and may throw anything.
         * Throws [FaultException]: MODEL_CHANGED, MODEL_UNREADABLE, INPUT_DIFFERS, OUTPUT_DIFFERS, LABELS_DIFFER.
         */
        fun open(card: ModelCard, model: ByteBuffer, load: (ByteBuffer) -> Network): Classifier {
            val found = sha256(model)
            if (found != card.sha256) {
                throw FaultException(Fault.MODEL_CHANGED, card.file, found.take(12), card.sha256.take(12))
            }
            val network = try {
                load(model)
            } catch (error: Throwable) {  // a missing native library is a LinkageError, not an Exception
                throw FaultException(Fault.MODEL_UNREADABLE, error.message?.lineSequence()?.first() ?: error.javaClass.simpleName)
            }
            try {
                check(card, network)
            } catch (fault: FaultException) {
                network.close()
                throw fault
            }
            return Classifier(card, network)
        }

        private fun check(card: ModelCard, network: Network) {
            val expected = card.input
            if (network.input.shape != expected.shape || network.input.dtype != expected.dtype) {
                throw FaultException(Fault.INPUT_DIFFERS, "${network.input}", "$expected")
            }
            val said = network.outputs.find { it.name == ModelCard.PROBABILITIES }
            if (said != null && said.shape.last() != card.classes.size) {
                throw FaultException(Fault.LABELS_DIFFER, "${said.shape.last()}", "${card.classes.size}")
            }
            if (network.outputs.toSet() != card.outputs.toSet()) {
                throw FaultException(Fault.OUTPUT_DIFFERS, network.outputs.joinToString(), card.outputs.joinToString())
            }
        }

        /** The sha256 of the whole buffer in hex. */
        private fun sha256(model: ByteBuffer): String {
            val whole = model.duplicate()
            whole.toStart()
            val digest = MessageDigest.getInstance("SHA-256")
            digest.update(whole)
            return digest.digest().joinToString("") { "%02x".format(it) }
        }
    }
}

/** Calls `Buffer.clear`: ByteBuffer's own `clear` came with Java 9 and is missing on old phones. */
internal fun Buffer.toStart() {
    clear()
}
