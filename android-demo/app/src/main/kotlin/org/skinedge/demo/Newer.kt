package org.skinedge.demo

import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.os.Build
import android.view.View
import android.view.WindowInsets

/** Names members of the framework that came after the oldest Android; the build's check leaves the function out. */
@Retention(AnnotationRetention.BINARY)
@Target(AnnotationTarget.FUNCTION)
annotation class Newer

/** Keeps the view's content clear of bars and cutouts: an app for Android 15 is drawn from edge to edge. */
@Newer
fun View.padBy(insets: WindowInsets) {
    if (Build.VERSION.SDK_INT < 30) return // the system keeps it clear
    val covered = insets.getInsets(WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout())
    setPadding(covered.left, covered.top, covered.right, covered.bottom)
}

/** Takes the pixels for sRGB, whatever profile the photo names: the model's training images were read so. */
@Newer
fun Bitmap.withoutProfile(): Bitmap {
    if (Build.VERSION.SDK_INT >= 29) setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
    return this
}

/** The name of the chip, where the system tells it. */
@Newer
fun chip(): String = if (Build.VERSION.SDK_INT >= 31) Build.SOC_MODEL else Build.HARDWARE
