package org.skinedge.demo.core

import java.nio.ByteBuffer
import java.security.MessageDigest
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Rules that need no inference library: a stub network with given outputs that records its inputs. */
class ClassifierTest {
    private val model = ByteBuffer.wrap(byteArrayOf(1, 2, 3))
    private val hash = MessageDigest.getInstance("SHA-256").digest(byteArrayOf(1, 2, 3)).joinToString("") { "%02x".format(it) }
    private val card = ModelCard.parse(toJson(soundCard() + ("sha256" to hash)))
    private val grey = Prepared(32, ByteArray(32 * 32 * 3) { if (it < 3) -1 else 0 })

    private class Told(card: ModelCard, val probabilities: FloatArray, val map: FloatArray? = FloatArray(32)) : Network {
        override val runtime = "told"
        override val version = "1"
        override val input = card.input
        override val outputs = card.outputs
        var given = FloatArray(0)
        var closed = false

        override fun run(input: ByteBuffer): Map<String, FloatArray> {
            given = FloatArray(input.remaining() / 4) { input.getFloat() }
            return listOfNotNull("probabilities" to probabilities, map?.let { "heatmap" to it }).toMap()
        }

        override fun close() { closed = true }
    }

    private fun answer(vararg probabilities: Float, map: FloatArray? = FloatArray(32)): Answer =
        Classifier.open(card, model) { Told(card, probabilities, map) }.classify(grey)

    @Test
    fun pixelsBecomeTheUnitsOfTheCard() {
        val told = Told(card, floatArrayOf(0.5f, 0.5f))
        val classifier = Classifier.open(card, model) { told }
        repeat(2) { classifier.classify(grey) }  // the second call reuses the buffer
        assertEquals(32 * 32 * 3, told.given.size)
        assertArrayEquals(floatArrayOf(1f, 1f, 1f, -1f), told.given.copyOf(4), 0f)
        classifier.close()
        assertTrue(told.closed)
    }

    @Test
    fun theLikeliestComeFirstAndEqualOnesInTheirOrder() {
        assertEquals(listOf("nv", "mel"), answer(0.2f, 0.8f).top(5).map { it.label })
        assertEquals(listOf("mel", "nv"), answer(0.5f, 0.5f).top(2).map { it.label })
        assertEquals(1, answer(0.2f, 0.8f).top(1).size)
    }

    @Test
    fun aLesionIsFlaggedFromTheThresholdOn() {
        assertTrue(answer(0.25f, 0.75f).flagged)
        assertFalse(answer(0.2499f, 0.7501f).flagged)
        assertEquals(0.25f, answer(0.25f, 0.75f).melanoma!!, 0f)
    }

    @Test
    fun unsureIsWhatNoClassReaches() {
        assertFalse(answer(0.5f, 0.5f).unsure())
        assertTrue(answer(0.4f, 0.49f).unsure())
        assertTrue(answer(0.2f, 0.8f).unsure(confidence = 0.9f))
    }

    @Test
    fun theHeatmapOfAClassIsTakenOutOfAll() {
        val map = answer(0.5f, 0.5f, map = FloatArray(32) { it.toFloat() }).heatmap(1)!!
        assertEquals(4, map.height)
        assertArrayEquals(FloatArray(16) { 2f * it + 1 }, map.values, 0f)
        assertArrayEquals(FloatArray(16), Heatmap(4, 4, FloatArray(16) { -1f }).levels(), 0f)
        assertNull(answer(0.5f, 0.5f, map = null).heatmap(0))
    }

    @Test
    fun noNumbersAreNoAnswer() {
        for (value in listOf(Float.NaN, Float.POSITIVE_INFINITY)) {
            assertEquals(Fault.NO_NUMBERS, fault { answer(value, 0f) })
            assertEquals(Fault.NO_NUMBERS, fault { answer(1f, 0f, map = FloatArray(32) { value }) })
        }
    }

    @Test
    fun aRefusedNetworkIsClosed() {
        val other = Told(card.copy(outputs = card.outputs.take(1)), floatArrayOf(1f, 0f))
        assertEquals(Fault.OUTPUT_DIFFERS, fault { Classifier.open(card, model) { other } })
        assertTrue(other.closed)
    }

    @Test
    fun aModelThatCannotBeLoadedSaysWhy() {
        val thrown = assertThrows(FaultException::class.java) {
            Classifier.open(card, model) { throw IllegalArgumentException("not a flatbuffer\nat line 3") }
        }
        assertEquals(Fault.MODEL_UNREADABLE, thrown.fault)
        assertEquals("not a flatbuffer", thrown.facts[0])
    }

    @Test
    fun anotherFileIsNeverLoaded() {
        var loaded = false
        assertEquals(Fault.MODEL_CHANGED, fault {
            Classifier.open(card, ByteBuffer.wrap(byteArrayOf(1, 2, 4))) { loaded = true; Told(card, FloatArray(2)) }
        })
        assertFalse(loaded)
    }

    @Test
    fun pixelsOfAnotherSizeAreAProgrammersError() {
        val classifier = Classifier.open(card, model) { Told(card, FloatArray(2)) }
        assertThrows(IllegalArgumentException::class.java) { classifier.classify(Prepared(16, ByteArray(16 * 16 * 3))) }
        assertSame(card, classifier.card)
    }

    private fun fault(action: () -> Unit): Fault = assertThrows(FaultException::class.java) { action() }.fault
}
