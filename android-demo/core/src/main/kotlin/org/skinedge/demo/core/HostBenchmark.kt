package org.skinedge.demo.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.random.Random

/**
 * What `skinedge bench --adb` asks of the app, and how it is answered (bench/skinedge_bench/devices/phone_app.py).
 *
 * files: model files by name; threads: each file is timed with each of these numbers.
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

/** One model file opened with so many threads. */
private class Candidate(val file: String, val threads: Int, val network: Network, val loadMs: Double) {
    private val input = network.input.drawn(Random(0))
    val firstMs = milliseconds(infer = ::infer)
    val key = "litert $file" + if (threads > 1) ", $threads threads" else ""

    fun infer() {
        network.run(input)
    }
}

/** The document that answers: rows, raw samples and versions, or why there are none. open: a file with so many threads. */
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
} catch (error: Throwable) {  // a native library that is not there is a LinkageError, and no Exception
    throw FaultException(Fault.MODEL_UNREADABLE, "$file, $threads threads: ${error.message}")
}

/** peak_rss_mib: of a process that has all files open it says nothing of one. */
private fun Candidate.row() = mapOf(
    "file" to file,
    "threads" to threads,
    "load_ms" to loadMs,
    "first_inference_ms" to firstMs,
    "peak_rss_mib" to null,
)

/** Drawn bytes, of which each is a value of the input. */
private fun Tensor.drawn(random: Random): ByteBuffer {
    val count = shape.fold(1, Int::times)
    val buffer = ByteBuffer.allocateDirect(if (dtype == "uint8") count else 4 * count).order(ByteOrder.nativeOrder())
    for (value in random.nextBytes(count)) {
        if (dtype == "uint8") buffer.put(value) else buffer.putFloat((value.toInt() and 255).toFloat())
    }
    buffer.toStart()
    return buffer
}
