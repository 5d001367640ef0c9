package org.skinedge.demo.views

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View
import org.skinedge.demo.R

/** A score of 0..1 as a bar, with a mark at its threshold. Needs a text next to it that states the score. */
class ScoreView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)
    private var score = 0f
    private var threshold: Float? = null

    fun show(score: Float, threshold: Float? = null) {
        this.score = score.coerceIn(0f, 1f)
        this.threshold = threshold
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val mark = resources.displayMetrics.density * 3
        val top = if (threshold == null) 0f else mark
        val bottom = height - top
        val radius = (bottom - top) / 2
        val start = if (layoutDirection == LAYOUT_DIRECTION_RTL) width * (1 - score) else 0f
        paint.color = context.getColor(R.color.track)
        canvas.drawRoundRect(0f, top, width.toFloat(), bottom, radius, radius, paint)
        val flagged = threshold?.let { score >= it }
        paint.color = context.getColor(if (flagged == null) R.color.accent else if (flagged) R.color.flagged else R.color.clear)
        canvas.drawRoundRect(start, top, start + width * score, bottom, radius, radius, paint)
        threshold?.let {
            val place = if (layoutDirection == LAYOUT_DIRECTION_RTL) width * (1 - it) else width * it
            paint.color = context.getColor(R.color.ink)
            canvas.drawRect(place - mark / 2, 0f, place + mark / 2, height.toFloat(), paint)
        }
    }
}
