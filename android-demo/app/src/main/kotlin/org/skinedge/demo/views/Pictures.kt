package org.skinedge.demo.views

import android.graphics.Bitmap
import org.skinedge.demo.core.Heatmap
import org.skinedge.demo.core.Prepared
import org.skinedge.demo.core.overlay

/** What the model saw. */
fun picture(image: Prepared): Bitmap = bitmap(image.size, IntArray(image.size * image.size) { at ->
    fun channel(i: Int) = image.rgb[3 * at + i].toInt() and 255
    (255 shl 24) or (channel(0) shl 16) or (channel(1) shl 8) or channel(2)
})

/** What the model saw, with the evidence for a class over it. */
fun picture(image: Prepared, evidence: Heatmap): Bitmap = bitmap(image.size, overlay(image, evidence))

private fun bitmap(side: Int, colours: IntArray) = Bitmap.createBitmap(colours, side, side, Bitmap.Config.ARGB_8888)
