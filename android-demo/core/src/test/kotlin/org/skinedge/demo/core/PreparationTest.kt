package org.skinedge.demo.core

import kotlin.random.Random
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Properties of preparation for any photo; ReplayTest compares pixels with Pillow's. */
class PreparationTest {

    @Test
    fun aSquareOfTheRightSizeIsLeftAsItIs() {
        val photo = noise(32, 32)
        val pixels = photo.all()
        val prepared = prepare(photo, 32)
        assertArrayEquals(ByteArray(32 * 32 * 3) { (pixels[it / 3] shr (16 - 8 * (it % 3))).toByte() }, prepared.rgb)
    }

    @Test
    fun theCentreIsCut() {
        val photo = Rows(96, 32) { x, _ -> if (x in 32 until 64) 0xFF102030.toInt() else 0xFFFFFFFF.toInt() }
        val prepared = prepare(photo, 32)
        assertArrayEquals(ByteArray(32 * 32 * 3) { byteArrayOf(0x10, 0x20, 0x30)[it % 3] }, prepared.rgb)
    }

    @Test
    fun oneColourStaysThatColourAtAnySize() {
        for ((width, height) in listOf(1 to 1, 7 to 90, 500 to 333, 1201 to 901)) {
            val prepared = prepare(Rows(width, height) { _, _ -> 0xFFC08040.toInt() }, 24)
            assertArrayEquals(ByteArray(24 * 24 * 3) { byteArrayOf(0xC0.toByte(), 0x80.toByte(), 0x40)[it % 3] }, prepared.rgb)
        }
    }

    @Test
    fun aTransparentPhotoIsWhite() {
        assertTrue(prepare(Rows(50, 40) { _, _ -> 0x00000000 }, 16).rgb.all { it == 0xFF.toByte() })
    }

    /** However large the photo, no more than one row is read at once. */
    @Test
    fun aHugePhotoIsReadByTheRow() {
        var largest = 0
        val photo = object : Photo {
            override val width = 8_000
            override val height = 600
            override fun read(left: Int, top: Int, width: Int, height: Int, into: IntArray) {
                largest = maxOf(largest, width * height)
                into.fill(0xFF336699.toInt(), 0, width * height)
            }
        }
        assertEquals(0x33.toByte(), prepare(photo, 224).rgb[0])
        assertTrue("$largest", largest <= 8_000)
    }

    @Test
    fun aStripIsRefused() {
        for ((width, height) in listOf(2000 to 99, 99 to 2000, 21 to 1, 0 to 5, 5 to 0)) {
            val thrown = assertThrows(FaultException::class.java) { prepare(Rows(width, height) { _, _ -> 0 }, 16) }
            assertEquals(Fault.PHOTO_STRIP, thrown.fault)
        }
        prepare(Rows(2000, 100) { _, _ -> -1 }, 16)
    }

    @Test
    fun turningTwiceByHalfIsNoTurn() {
        val photo = noise(11, 7)
        for ((there, back) in listOf(2 to 2, 3 to 3, 4 to 4, 5 to 5, 6 to 8, 7 to 7, 8 to 6)) {
            val turned = upright(photo, there)
            assertEquals(if (there >= 5) 7 else 11, turned.width)
            assertArrayEquals("$there, then $back", photo.all(), upright(turned, back).all())
        }
        for (none in listOf(-1, 0, 1, 9)) assertArrayEquals(photo.all(), upright(photo, none).all())
    }

    /** From the EXIF standard: at 6, the first row of the file is the right side of the picture. */
    @Test
    fun aPhoneHeldUprightShowsTheFirstRowOnTheRight() {
        val photo = noise(11, 7)
        val turned = upright(photo, 6)
        val right = IntArray(11).also { turned.read(turned.width - 1, 0, 1, 11, it) }
        val first = IntArray(11).also { photo.read(0, 0, 11, 1, it) }
        assertArrayEquals(first, right)
    }

    private fun noise(width: Int, height: Int): Photo {
        val random = Random(5)
        val pixels = IntArray(width * height) { random.nextInt() or (255 shl 24) }
        return Rows(width, height) { x, y -> pixels[y * width + x] }
    }

    private fun Photo.all() = IntArray(width * height).also { read(0, 0, width, height, it) }
}

/** A photo whose pixels are computed by a formula. */
class Rows(override val width: Int, override val height: Int, private val colour: (Int, Int) -> Int) : Photo {
    override fun read(left: Int, top: Int, width: Int, height: Int, into: IntArray) {
        for (i in 0 until width * height) into[i] = colour(left + i % width, top + i / width)
    }
}
