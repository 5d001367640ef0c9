package org.skinedge.demo.core

import kotlin.math.min

/** One class's activation map. values: height * width, row by row, in logits; positive is evidence for the class. */
class Heatmap(val height: Int, val width: Int, val values: FloatArray) {

    /** The map clipped at 0 and scaled so that its maximum is 1; all 0 without evidence. */
    fun levels(): FloatArray {
        val positive = FloatArray(values.size) { maxOf(values[it], 0f) }
        val top = positive.maxOrNull() ?: 0f
        return if (top > 0) FloatArray(values.size) { positive[it] / top } else positive
    }
}

/**
 * Draws the map over the grey image, as `skinedge explain` does (skinedge_bench/explain/overlay.py): clipped at 0, enlarged
 * by cubic convolution, coloured by eleven steps of 'inferno', transparent where there is little evidence.
 *
 * Returns size * size colours, 0xFFRRGGBB.
 */
fun overlay(image: Prepared, map: Heatmap): IntArray {
    val level = enlarged(map.levels(), map.height, map.width, image.size)
    return IntArray(level.size) { tint(grey(image.rgb, 3 * it), level[it]) }
}

/** The colour of a level of evidence (0..1) over a grey (0..255), also for the legend. */
fun tint(grey: Int, level: Float): Int {
    val opacity = OPACITY * min(2 * level, 1f)
    val place = level.toDouble() * (INFERNO.size - 1)
    val step = min(place.toInt(), INFERNO.size - 2)
    fun mixed(shift: Int): Int {
        val low = INFERNO[step] shr shift and 255
        val high = INFERNO[step + 1] shr shift and 255
        val colour = low + (place - step) * (high - low)
        return Math.rint(grey * (1 - opacity) + colour * opacity).toInt() shl shift
    }
    return (255 shl 24) or mixed(16) or mixed(8) or mixed(0)
}

/** The luma of the pixel that starts at `at`, as in Pillow's `convert("L")` (ITU-R 601-2). */
private fun grey(rgb: ByteArray, at: Int): Int {
    fun channel(i: Int) = rgb[at + i].toInt() and 255
    return (channel(0) * 19595 + channel(1) * 38470 + channel(2) * 7471 + 0x8000) shr 16
}

/** Resizes to `size` x `size` by cubic convolution, as Pillow resizes an image of mode 'F', clipped to 0..1. */
private fun enlarged(values: FloatArray, height: Int, width: Int, size: Int): FloatArray {
    val across = Resampling(width, size, 0, size, Filter.CUBIC)
    val down = Resampling(height, size, 0, size, Filter.CUBIC)
    val rows = FloatArray(height * size) { at ->
        val (y, x) = at / size to at % size
        weighted(across, x) { values[y * width + it] }
    }
    return FloatArray(size * size) { at ->
        val (y, x) = at / size to at % size
        weighted(down, y) { rows[it * size + x] }.coerceIn(0f, 1f)
    }
}

private inline fun weighted(axis: Resampling, place: Int, value: (Int) -> Float): Float {
    var sum = 0.0
    axis.weights[place].forEachIndexed { j, weight -> sum += value(axis.first[place] + j) * weight }
    return sum.toFloat()
}

private const val OPACITY = 0.75f

/** Eleven even steps of matplotlib's 'inferno' (van der Walt and Smith 2015; CC0). */
private val INFERNO = intArrayOf(
    0x000004, 0x160B39, 0x420A68, 0x6A176E, 0x932667, 0xBC3754, 0xDD513A, 0xF37819, 0xFCA50A, 0xF6D746, 0xFCFFA4,
)
