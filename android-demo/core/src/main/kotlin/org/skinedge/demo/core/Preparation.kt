package org.skinedge.demo.core

import kotlin.math.max
import kotlin.math.min

/** A square of pixels that a model can take. rgb: size * size * 3 bytes, row after row, R, G, B of 0..255. */
class Prepared(val size: Int, val rgb: ByteArray)

/** The centre square of anything longer shows next to nothing of it. */
const val LONGEST = 20

/**
 * Resizes the shorter side to `size` and cuts out the centre square: skinedge/preprocess.py, byte for byte.
 *
 * Bilinear with antialiasing, first along the rows, then along the columns, each pass rounded to bytes. Transparency is
 * laid on white. Only what the square needs is read and computed, a row at a time.
 *
 * Throws [FaultException] for a strip more than [LONGEST] times as long as wide.
 */
fun prepare(photo: Photo, size: Int): Prepared {
    val (width, height) = photo.width to photo.height
    val short = min(width, height)
    if (short < 1 || max(width, height) > LONGEST * short) {
        throw FaultException(Fault.PHOTO_STRIP, "$width", "$height", "$LONGEST")
    }
    val across = axis(width, short, size)
    val down = axis(height, short, size)
    return Prepared(size, resizeColumns(resizeRows(photo, across, down, size), down, size))
}

/** One side of the photo, resized as its shorter side is, of which the middle `size` are wanted. */
private fun axis(side: Int, short: Int, size: Int): Resampling {
    val resized = ((side.toLong() * size + short / 2) / short).toInt()
    return Resampling(side, resized, (resized - size) / 2, size)
}

/** Every row that the columns need, `size` pixels long, as bytes. */
private fun resizeRows(photo: Photo, across: Resampling, down: Resampling, size: Int): ByteArray {
    val weights = across.fixed()
    val left = across.first.first()
    val row = IntArray(across.end - left)
    val rows = down.end - down.first.first()
    val out = ByteArray(rows * size * 3)
    var at = 0
    for (y in 0 until rows) {
        photo.read(left, down.first.first() + y, row.size, 1, row)
        for (i in row.indices) row[i] = onWhite(row[i])
        for (x in 0 until size) {
            var red = HALF
            var green = HALF
            var blue = HALF
            val start = across.first[x] - left
            weights[x].forEachIndexed { j, weight ->
                val pixel = row[start + j]
                red += (pixel shr 16 and 255) * weight
                green += (pixel shr 8 and 255) * weight
                blue += (pixel and 255) * weight
            }
            out[at++] = Resampling.toByte(red).toByte()
            out[at++] = Resampling.toByte(green).toByte()
            out[at++] = Resampling.toByte(blue).toByte()
        }
    }
    return out
}

private fun resizeColumns(rows: ByteArray, down: Resampling, size: Int): ByteArray {
    val weights = down.fixed()
    val line = size * 3
    val out = ByteArray(size * line)
    for (y in 0 until size) {
        val start = (down.first[y] - down.first.first()) * line
        for (i in 0 until line) {
            var sum = HALF
            weights[y].forEachIndexed { j, weight -> sum += (rows[start + j * line + i].toInt() and 255) * weight }
            out[y * line + i] = Resampling.toByte(sum).toByte()
        }
    }
    return out
}

private const val HALF = 1 shl (Resampling.BITS - 1)

/** The pixel laid on white, rounded as Pillow's `Image.alpha_composite` rounds. */
private fun onWhite(pixel: Int): Int {
    val alpha = pixel ushr 24
    if (alpha == 255) return pixel
    fun mixed(channel: Int): Int {
        val sum = (channel * alpha + 255 * (255 - alpha)) * 128 + (128 shl 7)
        return ((sum ushr 8) + sum) ushr 8 ushr 7
    }
    return (255 shl 24) or (mixed(pixel shr 16 and 255) shl 16) or (mixed(pixel shr 8 and 255) shl 8) or mixed(pixel and 255)
}
