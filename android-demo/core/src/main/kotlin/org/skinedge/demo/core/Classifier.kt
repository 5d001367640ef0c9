package org.skinedge.demo.core

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest

/**
 * A model that may be believed: pixels in, probabilities out. For one thread at a time.
 *
 * Made by [Classifier.open] only, which checks the file and its card first.
 */
class Classifier private constructor(val card: ModelCard, val network: Network) : AutoCloseable {
    private val input = ByteBuffer.allocateDirect(card.size * card.size * 3 * if (card.input.dtype == "uint8") 1 else 4)
        .order(ByteOrder.nativeOrder())
    private val values = FloatArray(256) { card.black + it * (card.white - card.black) / 255f }

    /** Throws [FaultException]: PHOTO_STRIP, NO_NUMBERS, or what reading the photo throws. */
    fun classify(photo: Photo): Answer = classify(prepare(photo, card.size))

    /** Throws [FaultException] NO_NUMBERS; IllegalArgumentException for pixels of another size than the card's. */
    fun classify(image: Prepared): Answer {
        val said = run(image)
        if (said.values.any { output -> output.any { it.isNaN() || it.isInfinite() } }) throw FaultException(Fault.NO_NUMBERS)
        return Answer(card, said.getValue(ModelCard.PROBABILITIES), said[ModelCard.HEATMAP])
    }

    /** The inference alone, with the input written: what a benchmark times. */
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
         * The model with its card, checked: hash, tensors, number of classes.
         *
         * model: the whole file; load: opens it in an inference library, and may throw what it likes.
         * Throws [FaultException]: MODEL_CHANGED, MODEL_UNREADABLE, INPUT_DIFFERS, OUTPUT_DIFFERS, LABELS_DIFFER.
         */
        fun open(card: ModelCard, model: ByteBuffer, load: (ByteBuffer) -> Network): Classifier {
            val found = sha256(model)
            if (found != card.sha256) {
                throw FaultException(Fault.MODEL_CHANGED, card.file, found.take(12), card.sha256.take(12))
            }
            val network = try {
                load(model)
            } catch (error: Throwable) {  // a native library that is not there is a LinkageError, and no Exception
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

        /** sha256, in hex, of the whole buffer. */
        private fun sha256(model: ByteBuffer): String {
            val whole = model.duplicate()
            whole.toStart()
            val digest = MessageDigest.getInstance("SHA-256")
            digest.update(whole)
            return digest.digest().joinToString("") { "%02x".format(it) }
        }
    }
}

/** `clear` as every Android has it: Java 9 gave ByteBuffer one of its own, which old phones lack. */
internal fun Buffer.toStart() {
    clear()
}
