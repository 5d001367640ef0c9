package org.skinedge.demo.core

import kotlin.random.Random

/** The size of a benchmark: warm-up inferences, inferences per block, minimum number of blocks, minimum duration. */
interface Amount {
    val warmup: Int
    val block: Int
    val blocks: Int
    val minSeconds: Double
}

/**
 * The same names and numbers as skinedge_bench/latency/protocols.
 *
 * headline: the percentile to report.
 */
enum class Protocol(
    override val warmup: Int,
    override val block: Int,
    override val blocks: Int,
    override val minSeconds: Double,
    val headline: Int,
) : Amount {
    QUICK(10, 20, 6, 0.0, 50),
    STANDARD(30, 50, 20, 0.0, 50),
    MLPERF(64, 64, 16, 60.0, 90),
}

/** Raw samples of one model. blocks: in milliseconds, in the order measured. */
class Measurement(val protocol: Protocol, val blocks: List<DoubleArray>)

/**
 * Times a model's inferences in blocks, as `skinedge bench` does.
 *
 * infer: one inference; clock: nanoseconds; progress: called with finished and minimum blocks, false stops the benchmark.
 * Returns null when stopped.
 */
fun measure(
    protocol: Protocol,
    clock: () -> Long = System::nanoTime,
    progress: (Int, Int) -> Boolean = { _, _ -> true },
    infer: () -> Unit,
): Measurement? = interleaved(protocol, listOf(infer), Random(0), clock, progress)?.let { Measurement(protocol, it.single()) }

/**
 * Times several models in interleaved blocks, so that other load affects all of them: each round has one block of every
 * model, in random order.
 *
 * Returns the blocks of each model, or null when stopped.
 */
fun interleaved(
    amount: Amount,
    inferences: List<() -> Unit>,
    random: Random,
    clock: () -> Long = System::nanoTime,
    progress: (Int, Int) -> Boolean = { _, _ -> true },
): List<List<DoubleArray>>? {
    for (infer in inferences) repeat(amount.warmup) { infer() }
    val blocks = inferences.map { ArrayList<DoubleArray>() }
    val seconds = DoubleArray(inferences.size)
    while (blocks[0].size < amount.blocks || seconds.any { it < amount.minSeconds }) {
        if (!progress(blocks[0].size, amount.blocks)) return null
        for (place in inferences.indices.shuffled(random)) {
            repeat(SETTLE) { inferences[place]() }
            blocks[place].add(DoubleArray(amount.block) { milliseconds(clock, inferences[place]) })
            seconds[place] += blocks[place].last().sum() / 1e3
        }
    }
    return blocks
}

/** The duration of `infer` in milliseconds. */
fun milliseconds(clock: () -> Long = System::nanoTime, infer: () -> Unit): Double {
    val started = clock()
    infer()
    return (clock() - started) / 1e6
}

/** Inferences at the start of a block that are discarded. */
private const val SETTLE = 2
