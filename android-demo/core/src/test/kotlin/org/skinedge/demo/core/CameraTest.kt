package org.skinedge.demo.core

import java.io.ByteArrayInputStream
import kotlin.math.abs
import kotlin.random.Random
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Camera frames, photo files, and benchmarks of several models. */
class CameraTest {

    /** Expected: Pillow's `Image.convert("RGB")` of one pixel of mode 'YCbCr'. */
    @Test
    fun coloursOfAFrameAreThoseOfJfif() {
        val expected = mapOf(
            listOf(0, 128, 128) to listOf(0, 0, 0),
            listOf(255, 128, 128) to listOf(255, 255, 255),
            listOf(81, 90, 240) to listOf(238, 14, 13),
            listOf(145, 54, 34) to listOf(13, 237, 13),
            listOf(41, 240, 110) to listOf(15, 15, 239),
            listOf(128, 100, 180) to listOf(200, 100, 78),
            listOf(200, 16, 16) to listOf(42, 255, 1),
            listOf(30, 250, 250) to listOf(201, 0, 246),
        )
        for ((yuv, rgb) in expected) {
            val (y, u, v) = yuv.map { Plane(byteArrayOf(it.toByte()), 1, 1) }
            val found = IntArray(1).also { YuvPhoto(1, 1, y, u, v).read(0, 0, 1, 1, it) }.single()
            assertEquals(255, found ushr 24)
            for (i in 0..2) assertTrue("$yuv", abs((found shr (16 - 8 * i) and 255) - rgb[i]) <= 1)
        }
    }

    /** Planes as on phones: padded rows, interleaved chroma. */
    @Test
    fun stridesAreFollowed() {
        val bright = ByteArray(4 * 10) { (it % 10 * 10 + it / 10).toByte() }
        val grey = ByteArray(2 * 8) { 128.toByte() }
        val photo = YuvPhoto(6, 4, Plane(bright, 10, 1), Plane(grey, 8, 2), Plane(grey, 8, 2))
        val block = IntArray(4).also { photo.read(3, 2, 2, 2, it) }
        assertArrayEquals(intArrayOf(32, 42, 33, 43), IntArray(4) { block[it] and 255 })
    }

    @Test
    fun aFrameIsTurnedByQuarters() {
        assertEquals(listOf(1, 6, 3, 8, 1, 8), listOf(0, 90, 180, 270, 360, -90).map(::orientationOf))
    }

    @Test
    fun aJpegThatLacksItsEndIsKnown() {
        val whole = bytes(0xFF, 0xD8, 0xFF, 0xE1, 0, 4, 0xFF, 0xD9, 0xFF, 0xDA, 0, 3, 1, 7, 0xFF, 0, 8, 0xFF, 0xD0, 9, 0xFF, 0xD9)
        assertFalse(endsEarly(ByteArrayInputStream(whole)))
        assertFalse(endsEarly(ByteArrayInputStream(whole + bytes(1, 2, 3)))) // data that phones append after the image
        for (length in 2 until whole.size) assertTrue("$length", endsEarly(ByteArrayInputStream(whole.copyOf(length))))
        for (other in listOf(bytes(), bytes(0xFF), bytes(0x89, 0x50, 0x4E, 0x47))) assertFalse(endsEarly(ByteArrayInputStream(other)))
    }

    private fun bytes(vararg values: Int) = ByteArray(values.size) { values[it].toByte() }

    @Test
    fun severalModelsAreTimedInRounds() {
        var now = 0L
        val order = ArrayList<Int>()
        val models = List(3) { place -> { order.add(place); now += (place + 1) * 1_000_000L; Unit } }
        val found = interleaved(Request, models, Random(1), { now })!!
        assertEquals(3 * (1 + 6 * (2 + 4)), order.size)
        found.forEachIndexed { place, blocks ->
            assertEquals(6, blocks.size)
            for (block in blocks) assertArrayEquals(DoubleArray(4) { place + 1.0 }, block, 1e-9)
        }
        val rounds = order.drop(3).chunked(6).map { it.toSet().single() }.chunked(3)
        assertTrue(rounds.all { it.toSet().size == 3 })
        assertTrue("the order is drawn anew", rounds.toSet().size > 1)
    }

    private object Request : Amount {
        override val warmup = 1
        override val block = 4
        override val blocks = 6
        override val minSeconds = 0.0
    }

    @Test
    fun aRequestThatCannotBeMeantIsRefused() {
        for (files in listOf(emptyList(), listOf(""), listOf("../card.json"), listOf("a/b"), listOf("..")))
            assertThrows(IllegalArgumentException::class.java) { request(files = files) }
        for (threads in listOf(emptyList(), listOf(0))) assertThrows(IllegalArgumentException::class.java) { request(threads = threads) }
        assertThrows(IllegalArgumentException::class.java) { request(block = 0) }
        assertEquals("r", request().id)
    }

    @Test
    fun aFileThatCannotBeOpenedIsTheAnswer() {
        val said = benchmark(request()) { file, _ -> throw IllegalStateException("$file is no model") }
        assertEquals("r", said["request"])
        assertTrue("${said["error"]}", "a.tflite is no model" in said["error"] as String)
        assertEquals(setOf("request", "error"), said.keys)
    }

    private fun request(files: List<String> = listOf("a.tflite"), threads: List<Int> = listOf(1), block: Int = 4) =
        HostRequest("r", files, threads, warmup = 0, block = block, blocks = 2, minSeconds = 0.0, seed = 0)
}
