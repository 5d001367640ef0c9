package org.skinedge.demo.core

/** One plane of a camera's frame, from byte 0: a row every `rowStride` bytes, a sample every `pixelStride` bytes. */
class Plane(private val bytes: ByteArray, private val rowStride: Int, private val pixelStride: Int) {
    /** 0..255. */
    fun at(x: Int, y: Int): Int = bytes[y * rowStride + x * pixelStride].toInt() and 255
}

/**
 * A camera's frame in Android's YUV_420_888: luma for every pixel, both chroma values for every 2 x 2 pixels.
 *
 * Colours as in JFIF (ITU-T T.871, section 7), the conversion of Android's cameras.
 */
class YuvPhoto(
    override val width: Int,
    override val height: Int,
    private val y: Plane,
    private val u: Plane,
    private val v: Plane,
) : Photo {

    override fun read(left: Int, top: Int, width: Int, height: Int, into: IntArray) {
        for (row in 0 until height) for (column in 0 until width) {
            into[row * width + column] = colour(left + column, top + row)
        }
    }

    private fun colour(x: Int, row: Int): Int {
        val bright = (y.at(x, row) shl BITS) + HALF
        val blueness = u.at(x / 2, row / 2) - 128
        val redness = v.at(x / 2, row / 2) - 128
        val red = byte(bright + RED * redness)
        val green = byte(bright - GREEN_U * blueness - GREEN_V * redness)
        return (255 shl 24) or (red shl 16) or (green shl 8) or byte(bright + BLUE * blueness)
    }

    private fun byte(fixed: Int): Int = (fixed shr BITS).coerceIn(0, 255)

    private companion object {
        // 1.402, 0.344136, 0.714136 and 1.772, in units of 2^-16
        const val BITS = 16
        const val HALF = 1 shl (BITS - 1)
        const val RED = 91881
        const val GREEN_U = 22553
        const val GREEN_V = 46802
        const val BLUE = 116130
    }
}

/** The EXIF orientation of a frame that is upright after a clockwise rotation by 0, 90, 180 or 270 degrees. */
fun orientationOf(degrees: Int): Int = when (Math.floorMod(degrees, 360)) {
    90 -> 6
    180 -> 3
    270 -> 8
    else -> 1
}
