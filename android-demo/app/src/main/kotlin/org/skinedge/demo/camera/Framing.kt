package org.skinedge.demo.camera

import android.graphics.Matrix
import android.graphics.RectF
import android.view.Surface
import kotlin.math.min

/**
 * The position and rotation of a camera's frames on the screen.
 *
 * width, height: of a frame in sensor orientation; sensorDegrees: clockwise rotation that makes it upright while the
 * device is upright; rotation: of the display, `Surface.ROTATION_*`.
 */
data class Framing(val width: Int, val height: Int, val sensorDegrees: Int, val rotation: Int) {
    private val displayDegrees = when (rotation) {
        Surface.ROTATION_90 -> 90
        Surface.ROTATION_180 -> 180
        Surface.ROTATION_270 -> 270
        else -> 0
    }

    /** Clockwise rotation that makes a frame upright on the screen. */
    val frameDegrees: Int get() = Math.floorMod(sensorDegrees - displayDegrees, 360)

    /** Side of the model's centre square, in pixels of a view of this size. */
    fun squareSide(viewWidth: Int, viewHeight: Int): Float = min(width, height) * scale(viewWidth, viewHeight)

    /** The transform with which a TextureView, which stretches frames, shows a full frame in its proportions. */
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
