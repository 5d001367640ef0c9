package org.skinedge.demo.core

import java.util.Locale
import kotlin.math.max
import kotlin.math.min

/** A model's square input. rgb: size * size * 3 bytes, row by row, R, G, B of 0..255. */
class Prepared(val size: Int, val rgb: ByteArray)

/** Largest ratio of the sides; the centre square of a longer photo shows almost nothing of it. */
const val LONGEST = 20

/** skinedge's limit: the largest photo of a "50 megapixel" camera, 8192 x 6144. */
const val MAX_PIXELS = 50_331_648L

/** Throws [FaultException] for more than [MAX_PIXELS] pixels. */
fun refuseLarge(width: Int, height: Int) {
    val pixels = width.toLong() * height
    if (pixels > MAX_PIXELS) throw FaultException(Fault.PHOTO_PIXELS, megapixels(pixels), megapixels(MAX_PIXELS))
}

private fun megapixels(pixels: Long): String = String.format(Locale.ROOT, "%.1f", pixels / 1e6)

/**
 * Resizes the shorter side to `size` and crops the centre square: byte for byte as skinedge/core/preprocess.py.
 *
 * Bilinear with antialiasing, one axis after the other, each pass rounded to bytes, as in Pillow 13.
 * Transparency is composed on white. Reads and computes only the pixels of the square, row by row.
 *
 * Throws [FaultException] for a strip more than [LONGEST] times as long as wide.
 */
fun prepare(photo: Photo, size: Int): Prepared {
    val (width, height) = photo.width to photo.height
    val short = min(width, height)
    if (short < 1 || max(width, height) > LONGEST * short) {
        throw FaultException(Fault.PHOTO_STRIP, "$width", "$height", "$LONGEST")
    }
    val (newWidth, newHeight) = resized(width, short, size) to resized(height, short, size)
    val across = Resampling(width, newWidth, (newWidth - size) / 2, size)
    val down = Resampling(height, newHeight, (newHeight - size) / 2, size)
    val lines = Lines(photo, across.start, across.end)
    val columnsFirst = columnsFirst(width - newWidth, height - newHeight)
    val row = if (columnsFirst) columnsThenRows(lines, across, down) else rowsThenColumns(lines, across, down)
    val rgb = ByteArray(size * size * 3)
    for (y in 0 until size) row(y).copyInto(rgb, y * size * 3)
    return Prepared(size, rgb)
}

private fun resized(side: Int, short: Int, size: Int): Int = ((side.toLong() * size + short / 2) / short).toInt()

/** True if Pillow 13 resizes the columns first: if they shrink more than twice as much as the rows. Affects rounding. */
private fun columnsFirst(lostColumns: Int, lostRows: Int): Boolean = lostRows > 0 && lostRows > 2 * lostColumns

private fun columnsThenRows(lines: Lines, across: Resampling, down: Resampling): (Int) -> ByteArray =
    { y -> across.across(down.down(y, lines::read)) }

private fun rowsThenColumns(lines: Lines, across: Resampling, down: Resampling): (Int) -> ByteArray {
    val narrow = Array(down.end - down.start) { across.across(lines.read(down.start + it)) }
    return { y -> down.down(y) { narrow[it - down.start] } }
}

/** Rows of a photo from column `left` until `right`, as RGB bytes on white. */
private class Lines(private val photo: Photo, private val left: Int, right: Int) {
    private val pixels = IntArray(right - left)

    fun read(y: Int): ByteArray {
        photo.read(left, y, pixels.size, 1, pixels)
        val out = ByteArray(pixels.size * 3)
        pixels.forEachIndexed { x, pixel ->
            val opaque = onWhite(pixel)
            out[3 * x] = (opaque shr 16).toByte()
            out[3 * x + 1] = (opaque shr 8).toByte()
            out[3 * x + 2] = opaque.toByte()
        }
        return out
    }
}

/** The pixel composed on white, rounded as in Pillow's `Image.alpha_composite`. */
internal fun onWhite(pixel: Int): Int {
    val alpha = pixel ushr 24
    if (alpha == 255) return pixel
    fun mixed(channel: Int): Int {
        val sum = (channel * alpha + 255 * (255 - alpha)) * 128 + (128 shl 7)
        return ((sum ushr 8) + sum) ushr 8 ushr 7
    }
    return (255 shl 24) or (mixed(pixel shr 16 and 255) shl 16) or (mixed(pixel shr 8 and 255) shl 8) or mixed(pixel and 255)
}
