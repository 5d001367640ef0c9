package org.skinedge.demo

import android.content.Context
import android.content.Intent
import java.io.File
import java.io.RandomAccessFile
import java.nio.channels.FileChannel
import org.skinedge.demo.core.HostRequest
import org.skinedge.demo.core.benchmark
import org.skinedge.demo.core.toJson
import org.skinedge.demo.runtime.RuntimeSettings
import org.skinedge.demo.runtime.TfliteNetwork

/** A benchmark for `skinedge bench --adb`; paths and extras are those of bench/skinedge_bench/devices/phone_app.py. */
class HostBenchmark(context: Context, private val intent: Intent) {
    private val models = File(context.filesDir, "benchmark")
    private val result = File(context.filesDir, "benchmark.json")

    /** Writes the result, or the error, into the file that the host waits for. */
    fun answer() {
        val document = try {
            benchmark(request()) { file, threads -> TfliteNetwork(mapped(File(models, file)), RuntimeSettings(threads, true)) }
        } catch (error: RuntimeException) { // invalid extras, or thrown by the inference library
            mapOf("request" to intent.getStringExtra(REQUEST), "error" to "${error.message}")
        }
        val part = File(result.path + ".part")
        part.writeText(toJson(document))
        check(part.renameTo(result)) { "$result cannot be written" }
    }

    private fun request() = HostRequest(
        id = intent.getStringExtra(REQUEST).orEmpty(),
        files = intent.getStringExtra("models").orEmpty().split(','),
        threads = intent.getStringExtra("threads").orEmpty().split(',').map { it.toInt() },
        warmup = intent.getIntExtra("warmup", 0),
        block = intent.getIntExtra("block", 0),
        blocks = intent.getIntExtra("blocks", 0),
        minSeconds = intent.getIntExtra("min_seconds", 0).toDouble(),
        seed = intent.getIntExtra("seed", 0),
    )

    private fun mapped(file: File) =
        RandomAccessFile(file, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }

    companion object {
        const val REQUEST = "request"
    }
}
