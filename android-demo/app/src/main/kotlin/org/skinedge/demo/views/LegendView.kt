package org.skinedge.demo.views

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View
import org.skinedge.demo.core.tint

/** The heatmap's colours, from no evidence to maximum evidence. Needs a text next to it that explains it. */
class LegendView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint()

    override fun onDraw(canvas: Canvas) {
        for (step in 0 until STEPS) {
            paint.color = tint(SKIN_GREY, step / (STEPS - 1f))
            val place = if (layoutDirection == LAYOUT_DIRECTION_RTL) STEPS - 1 - step else step
            val (left, right) = place * width / STEPS to (place + 1) * width / STEPS // integer pixels avoid seams
            canvas.drawRect(left.toFloat(), 0f, right.toFloat(), height.toFloat(), paint)
        }
    }

    private companion object {
        const val STEPS = 64
        const val SKIN_GREY = 190
    }
}
