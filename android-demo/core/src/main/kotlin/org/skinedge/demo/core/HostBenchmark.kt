package org.skinedge.demo.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.random.Random

/**
 * A request of `skinedge bench --adb` to the app (bench/skinedge_bench/devices/phone_app.py).
 *
 * files: names of model files; threads: numbers of threads, each with every file.
 */
class HostRequest(
    val id: String,
    val files: List<String>,
    val threads: List<Int>,
    override val warmup: Int,
    override val block: Int,
    override val blocks: Int,
    override val minSeconds: Double,
    val seed: Int,
) : Amount {
    init {
        val named = files.all { it.isNotEmpty() && '/' !in it && it != ".." }
        require(files.isNotEmpty() && named) { "no names of files: $files" }
        require(threads.isNotEmpty() && threads.all { it > 0 }) { "no numbers of threads: $threads" }
        require(block > 0 && blocks > 0) { "no inferences: $blocks blocks of $block" }
    }
}

/** One model file, opened with this number of threads. */
private class Candidate(val file: String, val threads: Int, val network: Network, val loadMs: Double) {
    private val input = network.input.drawn(Random(0))
    val firstMs = milliseconds(infer = ::infer)
    val key = "litert $file" + if (threads > 1) ", $threads threads" else ""

    fun infer() {
        network.run(input)
    }
}

/** Runs the request; returns rows, raw samples and versions, or the error. open: opens a file with a number of threads. */
fun benchmark(request: HostRequest, open: (String, Int) -> Network): Map<String, Any?> {
    val opened = ArrayList<Candidate>()
    return try {
        for (file in request.files) for (threads in request.threads) opened.add(load(file, threads, open))
        val blocks = checkNotNull(interleaved(request, opened.map { it::infer }, Random(request.seed)))
        mapOf(
            "request" to request.id,
            "rows" to opened.map { it.row() },
            "samples_ms" to opened.indices.associate { i -> opened[i].key to blocks[i].map { it.toList() } },
            "versions" to mapOf("tensorflow-lite" to opened[0].network.version),
        )
    } catch (fault: FaultException) {
        mapOf("request" to request.id, "error" to fault.message)
    } finally {
        opened.forEach { it.network.close() }
    }
}

private fun load(file: String, threads: Int, open: (String, Int) -> Network): Candidate = try {
    lateinit var network: Network
    val loadMs = milliseconds { network = open(file, threads) }
    Candidate(file, threads, network, loadMs)
} catch (error: Throwable) {  // a missing native library is a LinkageError, not an Exception
    throw FaultException(Fault.MODEL_UNREADABLE, "$file, $threads threads: ${error.message}")
}

/** Without peak_rss_mib: the process has all files open, so its peak is not that of one file. */
private fun Candidate.row() = mapOf(
    "file" to file,
    "threads" to threads,
    "load_ms" to loadMs,
    "first_inference_ms" to firstMs,
    "peak_rss_mib" to null,
)

/** Random bytes, one for each value of the input. */
private fun Tensor.drawn(random: Random): ByteBuffer {
    val count = shape.fold(1, Int::times)
    val buffer = ByteBuffer.allocateDirect(if (dtype == "uint8") count else 4 * count).order(ByteOrder.nativeOrder())
    for (value in random.nextBytes(count)) {
        if (dtype == "uint8") buffer.put(value) else buffer.putFloat((value.toInt() and 255).toFloat())
    }
    buffer.toStart()
    return buffer
}
