package org.skinedge.demo.camera

import android.graphics.Matrix
import android.graphics.RectF
import android.view.Surface
import kotlin.math.min

/**
 * How a camera's frames lie on the screen.
 *
 * width, height: of a frame as the sensor has it; sensorDegrees: by which it must be turned clockwise to stand upright
 * while the device does; rotation: of the display, `Surface.ROTATION_*`.
 */
data class Framing(val width: Int, val height: Int, val sensorDegrees: Int, val rotation: Int) {
    private val displayDegrees = when (rotation) {
        Surface.ROTATION_90 -> 90
        Surface.ROTATION_180 -> 180
        Surface.ROTATION_270 -> 270
        else -> 0
    }

    /** By which a frame must be turned clockwise to stand as the screen does. */
    val frameDegrees: Int get() = Math.floorMod(sensorDegrees - displayDegrees, 360)

    /** Side of the centre square that the model takes, on a view of this size. */
    fun squareSide(viewWidth: Int, viewHeight: Int): Float = min(width, height) * scale(viewWidth, viewHeight)

    /** What makes a TextureView, which stretches frames over itself, show all of a frame in its proportions. */
    fun transform(viewWidth: Int, viewHeight: Int): Matrix {
        val view = RectF(0f, 0f, viewWidth.toFloat(), viewHeight.toFloat())
        val (across, down) = if (sensorDegrees % 180 == 0) width to height else height to width
        val frame = RectF(0f, 0f, across.toFloat(), down.toFloat())
        frame.offset(view.centerX() - frame.centerX(), view.centerY() - frame.centerY())
        val scale = scale(viewWidth, viewHeight)
        return Matrix().apply {
            setRectToRect(view, frame, Matrix.ScaleToFit.FILL)
            postScale(scale, scale, view.centerX(), view.centerY())
            postRotate(-displayDegrees.toFloat(), view.centerX(), view.centerY())
        }
    }

    private fun scale(viewWidth: Int, viewHeight: Int): Float {
        val (across, down) = if (frameDegrees % 180 == 0) width to height else height to width
        return min(viewWidth.toFloat() / across, viewHeight.toFloat() / down)
    }
}
