package org.skinedge.demo.core

/**
 * How many inferences a benchmark makes; the same names and numbers as skinedge_bench/protocols.
 *
 * headline: the percentile to quote.
 */
enum class Protocol(val warmup: Int, val block: Int, val blocks: Int, val minSeconds: Double, val headline: Int) {
    QUICK(10, 20, 6, 0.0, 50),
    STANDARD(30, 50, 20, 0.0, 50),
    MLPERF(64, 64, 16, 60.0, 90),
}

/** Raw samples of one model. blocks: in milliseconds, in the order measured. */
class Measurement(val protocol: Protocol, val blocks: List<DoubleArray>)

/**
 * Times a model's inferences in blocks, as `skinedge bench` does.
 *
 * infer: one inference; clock: nanoseconds; progress: blocks done and to do, false stops; returns null when stopped.
 */
fun measure(
    protocol: Protocol,
    clock: () -> Long = System::nanoTime,
    progress: (Int, Int) -> Boolean = { _, _ -> true },
    infer: () -> Unit,
): Measurement? {
    repeat(protocol.warmup) { infer() }
    val blocks = ArrayList<DoubleArray>()
    var seconds = 0.0
    while (blocks.size < protocol.blocks || seconds < protocol.minSeconds) {
        if (!progress(blocks.size, protocol.blocks)) return null
        repeat(SETTLE) { infer() }
        blocks.add(DoubleArray(protocol.block) { milliseconds(clock, infer) })
        seconds += blocks.last().sum() / 1e3
    }
    return Measurement(protocol, blocks)
}

/** What `infer` takes, in milliseconds. */
fun milliseconds(clock: () -> Long = System::nanoTime, infer: () -> Unit): Double {
    val started = clock()
    infer()
    return (clock() - started) / 1e6
}

/** Inferences at the start of a block that are not counted. */
private const val SETTLE = 2
