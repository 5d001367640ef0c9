package org.skinedge.demo

import android.content.Intent
import android.os.Bundle
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.ProgressBar
import android.widget.RadioGroup
import android.widget.TextView
import java.io.File
import java.io.IOException
import org.skinedge.demo.core.BenchReport
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.Protocol
import org.skinedge.demo.core.toJson

/** The benchmark screen; `skinedge bench --adb` starts it too. */
class BenchmarkActivity : Screen(), Outcome<BenchReport?> {
    private var run: BenchmarkRun? = null // the latest one, finished or not
    private val running get() = run?.takeIf { !it.task.finished }

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.benchmark)
        findViewById<Button>(R.id.start).setOnClickListener { running?.stop() ?: start(BenchmarkRun(this, protocol())) }
        findViewById<Button>(R.id.save).setOnClickListener { startActivityForResult(document(), SAVE) }
        (lastNonConfigurationInstance as BenchmarkRun?)?.let(::start)
        if (state == null && intent.hasExtra(HostBenchmark.REQUEST)) startForHost()
    }

    override fun onRetainNonConfigurationInstance(): Any? = run

    override fun onDestroy() {
        run?.task?.listener = null
        if (isFinishing) run?.stop()
        run = null
        super.onDestroy()
    }

    private fun protocol() = when (findViewById<RadioGroup>(R.id.protocol).checkedRadioButtonId) {
        R.id.standard -> Protocol.STANDARD
        R.id.mlperf -> Protocol.MLPERF
        else -> Protocol.QUICK
    }

    private fun start(begun: BenchmarkRun) {
        run = begun
        busy(true)
        watch()
        begun.task.listener = this
    }

    private fun busy(on: Boolean) {
        if (on) window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        else window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        show(R.id.progress, on)
        findViewById<Button>(R.id.start).setText(if (on) R.string.benchmark_stop else R.string.benchmark_start)
    }

    private fun watch() {
        val (done, all) = running?.progress ?: return
        val bar = findViewById<ProgressBar>(R.id.progress)
        bar.max = all
        bar.progress = done
        bar.postDelayed(::watch, WATCH_MS)
    }

    override fun done(value: BenchReport?) {
        busy(false)
        val report = value ?: return say(getString(R.string.benchmark_stopped))
        File(filesDir, "latency.json").writeText(toJson(report.document()))
        show(R.id.save, true)
        say(described(report))
    }

    override fun failed(fault: FaultException) {
        busy(false)
        say(words.of(fault))
    }

    private fun described(found: BenchReport): String {
        val times = found.latency
        val figures = listOfNotNull(50 to times.p50, 90 to times.p90, times.p99?.let { 99 to it })
            .joinToString("\n") { (percentile, value) -> getString(R.string.percentile, percentile, words.milliseconds(value)) }
        val counted = resources.getQuantityString(R.plurals.inferences, times.n, times.n)
        val doubts = found.reasons.joinToString("\n") { "• ${inWords(it)}" }
        return listOf(figures, counted, if (doubts.isEmpty()) "" else getString(R.string.doubts, doubts))
            .filter { it.isNotEmpty() }.joinToString("\n\n")
    }

    /** The reason in the user's language; the document has it in English. */
    private fun inWords(reason: String): String {
        val share = Regex("""\d+%""").find(reason)?.value.orEmpty()
        return when {
            reason == "on battery" -> getString(R.string.doubt_battery)
            reason.startsWith("noisy: ") -> getString(R.string.doubt_noisy, share)
            reason.startsWith("slowed down by ") -> getString(R.string.doubt_slowed, share)
            else -> reason
        }
    }

    private fun say(text: String) {
        show(R.id.outcome, true)
        findViewById<TextView>(R.id.outcome).text = text
    }

    private fun document() = Intent(Intent.ACTION_CREATE_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
        .setType("application/json").putExtra(Intent.EXTRA_TITLE, "latency.json")

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val place = data?.data ?: return
        val text = File(filesDir, "latency.json").takeIf { request == SAVE && result == RESULT_OK }?.readText() ?: return
        try {
            contentResolver.openOutputStream(place, "wt")!!.use { it.write(text.toByteArray()) }
        } catch (error: IOException) {
            say(getString(R.string.not_saved, error.message))
        }
    }

    /** Benchmarks the files that `skinedge bench --adb` copied into the app's folder, without showing progress. */
    private fun startForHost() {
        val asked = HostBenchmark(applicationContext, intent)
        busy(true)
        findViewById<ProgressBar>(R.id.progress).isIndeterminate = true
        findViewById<View>(R.id.start).isEnabled = false
        say(getString(R.string.benchmark_for_host))
        Engine.start { asked.answer() }.listener = object : Outcome<Unit> {
            override fun done(value: Unit) = ended(getString(R.string.benchmark_host_done))
            override fun failed(fault: FaultException) = ended(words.of(fault))
        }
    }

    private fun ended(text: String) {
        busy(false)
        findViewById<View>(R.id.start).isEnabled = true
        say(text)
    }

    private companion object {
        const val SAVE = 1
        const val WATCH_MS = 200L
    }
}
