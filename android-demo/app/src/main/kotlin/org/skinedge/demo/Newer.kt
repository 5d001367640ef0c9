package org.skinedge.demo

import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.os.Build
import android.view.View
import android.view.WindowInsets

/** Marks a function that uses members newer than the oldest supported Android; the build's API check skips it. */
@Retention(AnnotationRetention.BINARY)
@Target(AnnotationTarget.FUNCTION)
annotation class Newer

/** Pads the view's content for system bars and cutouts: apps for Android 15 are drawn edge to edge. */
@Newer
fun View.padBy(insets: WindowInsets) {
    if (Build.VERSION.SDK_INT < 30) return // older systems do it themselves
    val covered = insets.getInsets(WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout())
    setPadding(covered.left, covered.top, covered.right, covered.bottom)
}

/** Reads the pixels of a file whose profile the app does not remove, such as HEIC, as sRGB. */
@Newer
fun Bitmap.asSrgb(): Bitmap {
    if (Build.VERSION.SDK_INT >= 29) setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
    return this
}

/** The name of the chip, if the system provides it. */
@Newer
fun chip(): String = if (Build.VERSION.SDK_INT >= 31) Build.SOC_MODEL else Build.HARDWARE
