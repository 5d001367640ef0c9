package org.skinedge.demo.core

/** Pixels of a photo: in an `android.graphics.Bitmap` on a phone, in an array elsewhere. */
interface Photo {
    val width: Int
    val height: Int

    /** Copies a block, row by row, to the start of `into`, as 0xAARRGGBB without premultiplied alpha. */
    fun read(left: Int, top: Int, width: Int, height: Int, into: IntArray)
}

/** The upright photo. orientation: the EXIF tag 0x0112, 1 to 8; other values are ignored. */
fun upright(photo: Photo, orientation: Int): Photo = if (orientation in 2..8) Turned(photo, orientation) else photo

/** A photo seen through its EXIF orientation; copies pixels only when a block is read. */
private class Turned(private val photo: Photo, orientation: Int) : Photo {
    private val transposed = orientation >= 5
    private val fromRight = orientation in setOf(2, 3, 7, 8)
    private val fromBottom = orientation in setOf(3, 4, 6, 7)

    override val width get() = if (transposed) photo.height else photo.width
    override val height get() = if (transposed) photo.width else photo.height

    override fun read(left: Int, top: Int, width: Int, height: Int, into: IntArray) {
        val columns = if (transposed) height else width
        val rows = if (transposed) width else height
        val start = if (transposed) top else left
        val first = if (transposed) left else top
        val block = IntArray(columns * rows)
        photo.read(
            if (fromRight) photo.width - start - columns else start,
            if (fromBottom) photo.height - first - rows else first,
            columns, rows, block,
        )
        for (y in 0 until height) for (x in 0 until width) {
            val column = if (transposed) y else x
            val row = if (transposed) x else y
            into[y * width + x] =
                block[(if (fromBottom) rows - 1 - row else row) * columns + if (fromRight) columns - 1 - column else column]
        }
    }
}
