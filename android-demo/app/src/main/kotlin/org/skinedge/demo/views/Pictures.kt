package org.skinedge.demo.views

import android.graphics.Bitmap
import org.skinedge.demo.core.Heatmap
import org.skinedge.demo.core.Prepared
import org.skinedge.demo.core.overlay

/** The model's input as a bitmap. */
fun picture(image: Prepared): Bitmap = bitmap(image.size, IntArray(image.size * image.size) { at ->
    fun channel(i: Int) = image.rgb[3 * at + i].toInt() and 255
    (255 shl 24) or (channel(0) shl 16) or (channel(1) shl 8) or channel(2)
})

/** The model's input, overlaid with the evidence for a class. */
fun picture(image: Prepared, evidence: Heatmap): Bitmap = bitmap(image.size, overlay(image, evidence))

private fun bitmap(side: Int, colours: IntArray) = Bitmap.createBitmap(colours, side, side, Bitmap.Config.ARGB_8888)
