package org.skinedge.demo.core

import kotlin.math.max
import kotlin.math.min
import kotlin.math.sqrt

/** A ring of cells along the border: 0 is the outermost, 1 the next. */
private const val RINGS = 2
private const val HOT = 0.5f // of the strongest cell
private const val SIDES = 3 // of a ring's four; a spot at the border has two at most
private const val Z = 1.959963984540054 // of a 95 % interval

/**
 * The ring of cells (0 or 1) that is a frame, which comes from the network's zero padding and not from the skin; null
 * where none is. The rule of skinedge_bench/explain/frames.py; both replay tests/frame_vectors.json.
 */
fun frameRing(map: Heatmap): Int? {
    val high = map.values.maxOrNull() ?: 0f
    if (!(high > 0)) return null
    val cells = map.values.indices
    val hot = cells.filter { map.values[it] >= HOT * high }
    return (0 until RINGS).firstOrNull { ring ->
        val inside = hot.filter { depth(map, it) == ring }
        val share = cells.count { depth(map, it) == ring }.toDouble() / cells.count()
        sides(map, inside, ring) >= SIDES && wilsonLow(inside.size, hot.size) > share
    }
}

/** How many cells lie between a cell and the border. */
private fun depth(map: Heatmap, cell: Int): Int {
    val (row, column) = cell / map.width to cell % map.width
    return min(min(row, map.height - 1 - row), min(column, map.width - 1 - column))
}

/** Counts the sides of a ring with one of the cells; corners belong to no side. */
private fun sides(map: Heatmap, cells: List<Int>, ring: Int): Int {
    val (bottom, right) = map.height - 1 - ring to map.width - 1 - ring
    val (rows, columns) = ring + 1 until bottom to (ring + 1 until right)
    val sides = listOf<(Int, Int) -> Boolean>(
        { row, column -> row == ring && column in columns },
        { row, column -> row == bottom && column in columns },
        { row, column -> column == ring && row in rows },
        { row, column -> column == right && row in rows },
    )
    return sides.count { side -> cells.any { side(it / map.width, it % map.width) } }
}

/** The lower end of Wilson's 95 % interval for a share (Wilson 1927). */
private fun wilsonLow(hits: Int, n: Int): Double {
    if (hits == 0) return 0.0
    val (share, weight) = hits.toDouble() / n to Z * Z / n
    val half = Z / (1 + weight) * sqrt(share * (1 - share) / n + weight / (4 * n))
    return max(0.0, (share + weight / 2) / (1 + weight) - half)
}
