package org.skinedge.demo.views

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

/** Marks the square of the camera's picture that the model uses; the rest is darkened. */
class GuideView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val line = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = 0xFFFFFFFF.toInt()
        style = Paint.Style.STROKE
        strokeWidth = 2 * resources.displayMetrics.density
    }
    private val shade = Paint().apply { color = 0x80000000.toInt() }

    /** In pixels; 0 draws nothing. */
    var side = 0f
        set(value) {
            field = value
            invalidate()
        }

    override fun onDraw(canvas: Canvas) {
        if (side <= 0) return
        val left = (width - side) / 2
        val top = (height - side) / 2
        canvas.drawRect(0f, 0f, width.toFloat(), top, shade)
        canvas.drawRect(0f, top + side, width.toFloat(), height.toFloat(), shade)
        canvas.drawRect(0f, top, left, top + side, shade)
        canvas.drawRect(left + side, top, width.toFloat(), top + side, shade)
        canvas.drawRect(left, top, left + side, top + side, line)
    }
}
