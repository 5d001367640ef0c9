package org.skinedge.demo

import android.content.Context
import java.text.SimpleDateFormat
import java.util.Date
import java.util.Locale
import java.util.TimeZone
import java.util.concurrent.atomic.AtomicBoolean
import org.skinedge.demo.core.BenchReport
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.Loading
import org.skinedge.demo.core.Prepared
import org.skinedge.demo.core.Protocol
import org.skinedge.demo.core.measure
import org.skinedge.demo.core.milliseconds
import kotlin.random.Random

/** A benchmark of the installed model with its own session; continues while the screen is rotated. */
class BenchmarkRun(context: Context, private val protocol: Protocol) {
    private val application = context.applicationContext
    private val stopped = AtomicBoolean()

    /** Finished blocks, and the minimum number of blocks. */
    @Volatile
    var progress = 0 to protocol.blocks
        private set

    /** The report, null if the benchmark was stopped. */
    val task: Task<BenchReport?> = Engine.start { run() }

    fun stop() = stopped.set(true)

    private fun run(): BenchReport? {
        val settings = Settings(application).runtime
        val before = application.conditions()
        lateinit var model: Classifier
        val loadMs = milliseconds { model = Engine.source(application, settings) }
        return model.use {
            val image = Prepared(it.card.size, Random(0).nextBytes(3 * it.card.size * it.card.size))
            val loading = Loading(loadMs, milliseconds { it.run(image) }, peakRssMib())
            val measured = measure(protocol, progress = ::goesOn) { it.run(image) } ?: return null
            BenchReport(it.card, it.network, settings.threads, device(), before, application.conditions(), loading, measured, now())
        }
    }

    private fun goesOn(done: Int, all: Int): Boolean {
        progress = done to all
        return !stopped.get()
    }

    private fun now(): String = SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss'+00:00'", Locale.ROOT).run {
        timeZone = TimeZone.getTimeZone("UTC")
        format(Date())
    }
}
