package org.skinedge.demo.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/**
 * How one axis is resized by a triangle filter that widens with the reduction, as Pillow's `Image.resize` does it with
 * `Resampling.BILINEAR` (Pillow, src/libImaging/Resample.c, precompute_coeffs).
 *
 * Output `from + i`, for i in 0 until count, is the sum of inputs `first[i] + j` times `weights[i][j]`; the weights sum to 1.
 */
internal class Resampling(inputs: Int, outputs: Int, from: Int, count: Int) {
    val first = IntArray(count)
    val weights: Array<DoubleArray>

    init {
        val scale = inputs.toDouble() / outputs
        val reach = max(scale, 1.0)
        weights = Array(count) { i ->
            val centre = (from + i + 0.5) * scale
            first[i] = max((centre - reach + 0.5).toInt(), 0)
            val end = min((centre + reach + 0.5).toInt(), inputs)
            val raw = DoubleArray(end - first[i]) { j -> triangle((j + first[i] - centre + 0.5) * (1.0 / reach)) }
            var sum = 0.0
            for (weight in raw) sum += weight
            DoubleArray(raw.size) { j -> raw[j] / sum }
        }
    }

    /** The input after the last one that is needed. */
    val end: Int get() = first.last() + weights.last().size

    /** The weights as Pillow applies them to bytes: whole numbers of 2^-[BITS]. */
    fun fixed(): Array<IntArray> = Array(weights.size) { i ->
        IntArray(weights[i].size) { j -> (0.5 + weights[i][j] * (1 shl BITS)).toInt() }
    }

    private fun triangle(distance: Double): Double = max(1.0 - abs(distance), 0.0)

    companion object {
        const val BITS = 22

        /** A sum of bytes times fixed weights, begun at half a unit, as a byte. */
        fun toByte(sum: Int): Int = min(max(sum shr BITS, 0), 255)
    }
}
