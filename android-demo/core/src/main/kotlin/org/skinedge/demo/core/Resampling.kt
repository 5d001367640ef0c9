package org.skinedge.demo.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/**
 * Resizing of one axis by a filter that widens with the reduction, as Pillow's `Image.resize` with
 * `Resampling.BILINEAR` or `BICUBIC` (Pillow, src/libImaging/Resample.c, precompute_coeffs).
 *
 * Output `from + i`, for i in 0 until count, is the sum of inputs `first[i] + j` times `weights[i][j]`; the weights sum to 1.
 */
internal class Resampling(inputs: Int, outputs: Int, from: Int, count: Int, filter: Filter = Filter.TRIANGLE) {
    val first = IntArray(count)
    val weights: Array<DoubleArray>

    init {
        val scale = inputs.toDouble() / outputs
        val wide = max(scale, 1.0)
        val reach = filter.reach * wide
        weights = Array(count) { i ->
            val centre = (from + i + 0.5) * scale
            first[i] = max((centre - reach + 0.5).toInt(), 0)
            val end = min((centre + reach + 0.5).toInt(), inputs)
            val raw = DoubleArray(end - first[i]) { j -> filter.weight(abs(j + first[i] - centre + 0.5) * (1.0 / wide)) }
            var sum = 0.0
            for (weight in raw) sum += weight
            DoubleArray(raw.size) { j -> raw[j] / sum }
        }
    }

    /** The first input used, and the one after the last. */
    val start = first.first()
    val end = first.last() + weights.last().size

    /** The weights as Pillow applies them to bytes: integers in units of 2^-[BITS]. */
    private val fixed = Array(weights.size) { i ->
        IntArray(weights[i].size) { j -> (0.5 + weights[i][j] * (1 shl BITS)).toInt() }
    }

    /** Computes all outputs of one row. line: RGB bytes of the inputs from [start] on. */
    fun across(line: ByteArray): ByteArray {
        val out = ByteArray(fixed.size * 3)
        for (x in fixed.indices) for (channel in 0..2) {
            var sum = HALF
            var at = (first[x] - start) * 3 + channel
            for (weight in fixed[x]) {
                sum += (line[at].toInt() and 255) * weight
                at += 3
            }
            out[x * 3 + channel] = toByte(sum)
        }
        return out
    }

    /** Computes output `place` of all columns. line: the bytes of an input row, by its number. */
    fun down(place: Int, line: (Int) -> ByteArray): ByteArray {
        var sums = IntArray(0)
        fixed[place].forEachIndexed { j, weight ->
            val row = line(first[place] + j)
            if (j == 0) sums = IntArray(row.size) { HALF }
            for (i in row.indices) sums[i] += (row[i].toInt() and 255) * weight
        }
        return ByteArray(sums.size) { toByte(sums[it]) }
    }

    private fun toByte(sum: Int): Byte = min(max(sum shr BITS, 0), 255).toByte()

    private companion object {
        const val BITS = 22
        const val HALF = 1 shl (BITS - 1)  // rounds
    }
}

/** A filter of [Resampling]. reach: the distance, in inputs, from which on the weight is 0; distances are not negative. */
internal enum class Filter(val reach: Double) {
    TRIANGLE(1.0) {
        override fun weight(distance: Double): Double = max(1.0 - distance, 0.0)
    },

    /** Cubic convolution (Keys 1981, a = -1/2). */
    CUBIC(2.0) {
        override fun weight(distance: Double): Double = when {
            distance < 1.0 -> (1.5 * distance - 2.5) * distance * distance + 1.0
            distance < 2.0 -> (((distance - 5.0) * distance + 8.0) * distance - 4.0) * -0.5
            else -> 0.0
        }
    };

    abstract fun weight(distance: Double): Double
}
