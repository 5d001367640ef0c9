package org.skinedge.demo.core

import kotlin.random.Random

/** Minimum number of samples for the 99th percentile: ten of them are above it. */
const val P99_SAMPLES = 1000

/**
 * Milliseconds of n samples.
 *
 * p50Interval: low and high end of the 95 % interval of the median of the blocks' medians, null below 5 blocks;
 * p99: null below [P99_SAMPLES] samples.
 */
data class Latency(val p50: Double, val p50Interval: List<Double>?, val p90: Double, val p99: Double?, val n: Int)

/** Summarizes all samples. blocks: in milliseconds, in the order measured, at least one. */
fun latency(blocks: List<DoubleArray>): Latency {
    val samples = blocks.flatMap { it.asList() }.toDoubleArray()
    val p99 = if (samples.size >= P99_SAMPLES) quantile(samples, 0.99) else null
    return Latency(quantile(samples, 0.5), medianInterval(medians(blocks)), quantile(samples, 0.9), p99, samples.size)
}

private fun medians(blocks: List<DoubleArray>) = DoubleArray(blocks.size) { quantile(blocks[it], 0.5) }

/** Percentile bootstrap over the blocks, as in skinedge_bench/latency/block_stats.py, with other random numbers. */
private fun medianInterval(values: DoubleArray): List<Double>? {
    if (values.size < LEAST_BLOCKS) return null
    val random = Random(0)
    val drawn = DoubleArray(RESAMPLES) { quantile(DoubleArray(values.size) { values[random.nextInt(values.size)] }, 0.5) }
    return listOf(quantile(drawn, 0.025), quantile(drawn, 0.975))
}

/**
 * Reasons in the samples to distrust them, as in skinedge_bench/latency/block_stats.py: half of the blocks' medians
 * spread over more than 15 % of the median, or the last third is more than 10 % slower than the first.
 */
fun noiseReasons(blocks: List<DoubleArray>): List<String> {
    val medians = medians(blocks)
    val spread = (quantile(medians, 0.75) - quantile(medians, 0.25)) / quantile(medians, 0.5)
    val reasons = ArrayList<String>()
    if (spread > NOISE) reasons.add("noisy: half of the blocks' medians spread over ${percent(spread)} of the median")
    val third = medians.size / 3
    if (third > 0) {
        val first = quantile(medians.copyOfRange(0, third), 0.5)
        val last = quantile(medians.copyOfRange(medians.size - third, medians.size), 0.5)
        val drift = last / first - 1
        if (drift > DRIFT) reasons.add("slowed down by ${percent(drift)} during the benchmark")
    }
    return reasons
}

/** The quantile by linear interpolation (Hyndman and Fan 1996, type 7), NumPy's default. share: 0..1. */
fun quantile(samples: DoubleArray, share: Double): Double {
    val sorted = samples.sortedArray()
    val place = share * (sorted.size - 1)
    val low = place.toInt()
    val high = minOf(low + 1, sorted.size - 1)
    return sorted[low] + (place - low) * (sorted[high] - sorted[low])
}

private fun percent(share: Double) = "${Math.rint(100 * share).toInt()}%"

private const val NOISE = 0.15
private const val DRIFT = 0.10
private const val LEAST_BLOCKS = 5
private const val RESAMPLES = 1000
