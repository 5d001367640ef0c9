package org.skinedge.demo

import android.graphics.Bitmap
import org.skinedge.demo.core.Photo

/** The pixels of a bitmap, without a copy. The bitmap must have been decoded with `inPremultiplied = false`. */
class BitmapPhoto(private val bitmap: Bitmap) : Photo {
    override val width get() = bitmap.width
    override val height get() = bitmap.height

    override fun read(left: Int, top: Int, width: Int, height: Int, into: IntArray) =
        bitmap.getPixels(into, 0, width, left, top, width, height)
}
